"""An avatar speaks an audio file: python examples/render.py avatars/me speech.wav out.mp4"""

import sys

from nldf_engine import Engine


def main(avatar: str, audio: str, out: str) -> None:
    """Renders the avatar speaking to `out`."""
    engine = Engine.load(avatar)
    clip = engine.render(audio)
    print(f"{len(clip)} frames of {clip.frames.shape[2]}x{clip.frames.shape[1]}, with {engine.describe()}")
    clip.save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
