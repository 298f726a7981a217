"""The files of the page at ``/``; ``relay.delivery.page`` serves them."""
