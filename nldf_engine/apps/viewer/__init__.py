"""The viewer: an avatar under sliders, or a dataset, in the browser.

What is shown, and why, is worked out without a browser; viser shows it.

controls.py        the sliders and choices that an avatar answers to, and the edit that they make
state.py           all that one browser has set
take.py            what is said: a sound, its features, and the video that it is compared with
picture.py         a state becomes a picture
compare.py         the real frame beside the rendered one, and their difference
playhead.py        which frame is shown now
camera_path.py     key frames of the head, and the poses between them
codes.py           motion codes that are changed over a stretch of time
turning.py         a camera that is dragged, as numbers of the head
upload.py          files that a browser sends
recording.py       the clip of a state, as a video file
artist.py          draws in the background: small while something moves, full when it is still
footage.py         frames of a dataset in any order
dataset_picture.py a dataset's frame with what was found in it
playback.py        sound for the browser
desk.py            what one browser has set, and what can be done to it, without the browser

host.py, page.py, *_panel.py, dataset_page.py, server.py, view.py: the same with viser
"""
