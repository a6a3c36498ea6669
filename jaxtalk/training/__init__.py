"""The one training loop. It runs the stages of any system and knows none of them."""
