"""What the platform calls: parse the event, call the relay, return."""

import gc

# Importing makes next to no garbage, and much to look through: a tenth of a cold start
# would be spent on looking. Each function ends that when it has been imported.
gc.disable()
