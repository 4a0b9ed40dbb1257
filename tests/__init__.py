"""The tests, room by room, and what they share: the real Postfix of `mta`, the values of `building`."""
