"""What Valkey holds, and nothing else in the relay knows.

``keys`` names it, ``writer`` is for the one who holds the lease, ``reader`` for
everybody else; they are two files because they have two owners.
"""
