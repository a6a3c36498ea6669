"""From pixels to colours: which rays, where along them to ask a field, and how its answers become a picture."""
