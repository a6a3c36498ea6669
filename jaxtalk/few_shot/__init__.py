"""Talking heads of unseen people from seconds of video: what DFRF and GDRF share (card gdrf).

A radiance field that reads pictures of the person: every point is projected into N reference frames, features are
taken there, gathered by slot attention, and asked together with what the speech says.
"""
