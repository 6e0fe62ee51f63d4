"""Adapters of a live session to programs that hold conversations.

voice.py    a live session in an event loop: what the adapters share
livekit.py  an avatar for LiveKit Agents (`nldf_engine[livekit]`)
pipecat.py  an avatar for Pipecat (`nldf_engine[pipecat]`)
"""
