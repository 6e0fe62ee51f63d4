"""`nldf serve`: avatars that a browser, a phone call or a program can talk to.

settings.py   what may be set, and its limits
app.py        the web application: its parts, start and end
access.py     who may come in: token, origin, host, rate
control.py    HTTP: sessions, say, interrupt, edit
pace.py       how often something may happen
socket.py     the websocket: PCM in, pictures and PCM out
webrtc.py     offers and WHEP; ports.py: within a range of UDP ports
sessions.py   the sessions of this server, each in a worker
workers.py    processes that render, and what happens when one dies
worker.py     such a process: its sessions in the order in which their frames are due
encoders.py   a picture as JPEG, H.264 or as it is
messages.py   what goes between the processes, and the frames of the websocket
edits.py      edits as JSON, without anything that could name a file
metrics.py    counters in Prometheus' text format
openapi.py    the description of the HTTP part
page.py       the page for newcomers, in static/

aiohttp and aiortc come with the extra `serve`.
"""
