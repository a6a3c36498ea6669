"""From a talking video to a prepared clip. The entry point is `prepare.prepare_clip`."""
