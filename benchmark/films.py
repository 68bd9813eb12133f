"""Makes the films of README and the book from the agents: python benchmark/films.py

Each shows the same agent untrained, half-trained and trained, side by side, played by `logx.py play
--video`. Writes docs/_static/films/NAME.mp4, its still NAME.jpg, and NAME.webp, a smaller film for
README, where a code host shows no MP4.
"""

import contextlib
import io
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import imageio.v3 as iio
import numpy as np
import tyro
from PIL import Image

import logx

ROOT = Path(__file__).resolve().parent.parent
AGENTS = ROOT / "benchmark" / "agents"
FILMS = ROOT / "docs" / "_static" / "films"
STAGES = ("0-percent", "50-percent", "")  # "": trained


@dataclass
class Args:
    """Makes films of agents."""

    agents: tyro.conf.Positional[tuple[str, ...]] = ("ppo-HalfCheetah-v4",)  # of benchmark/agents
    seconds: float = 8  # how long a film lasts
    side: int = 256  # height and width of each of the three pictures, in pixels


def play(agent, seconds):
    """The first frames of an agent's episodes, (n, height, width, 3), and how many are a second."""
    episodes = 1
    while True:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "film.mp4")
            with contextlib.redirect_stdout(io.StringIO()):
                logx.play(logx.Play(str(agent), episodes, video=str(path)))
            frames = iio.imread(path)
            fps = iio.immeta(path)["fps"]
        if len(frames) >= seconds * fps:
            return frames[: int(seconds * fps)], fps
        episodes *= 4  # an untrained agent soon falls


def film(agent, seconds, side):
    """The frames of the three stages side by side, some 25 a second; and how many that are."""
    stages = []
    for stage in STAGES:
        frames, fps = play(agent / stage, seconds)
        every = max(1, round(fps / 25))
        small = [np.asarray(Image.fromarray(f).resize((side, side))) for f in frames[::every]]
        stages.append(np.stack(small))
    return np.concatenate(stages, axis=2), fps / every


def main(a):
    FILMS.mkdir(exist_ok=True)
    for name in a.agents:
        frames, fps = film(AGENTS / name, a.seconds, a.side)
        path = FILMS / f"{name}.mp4"
        quality = ["-crf", "30", "-preset", "veryslow", "-movflags", "+faststart"]
        iio.imwrite(path, frames, fps=fps, codec="libx264", output_params=quality)
        pictures = [Image.fromarray(x) for x in frames]
        pictures[len(pictures) // 2].save(path.with_suffix(".jpg"), quality=80)
        save_small(pictures, fps, path.with_suffix(".webp"))
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def save_small(pictures, fps, path):
    """Saves five seconds, half of the pictures, smaller, as a moving picture for README."""
    width, height = pictures[0].size
    shown = pictures[: int(5 * fps) : 2]
    first, *rest = [x.resize((5 * width // 8, 5 * height // 8)) for x in shown]
    first.save(
        path, save_all=True, append_images=rest, duration=round(2_000 / fps), loop=0, quality=30
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
