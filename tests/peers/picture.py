"""A picture to send."""

import subprocess
from pathlib import Path

SIZE = (480, 264)


def mountain(path: Path) -> Path:
    """Paints one, with snow on it, under a low sun."""
    subprocess.run([
        "convert", "-size", f"{SIZE[0]}x{SIZE[1]}", "gradient:#5b9bd5-#fbe9c9",
        "-fill", "#fff3b0", "-draw", "circle 395,80 395,52",
        "-fill", "#6b6f80", "-draw", "polygon 90,264 205,85 232,50 262,100 300,140 390,264",
        "-fill", "#f7f9fc", "-draw", "polygon 150,171 205,85 232,50 262,100 288,128 250,160 232,130 205,175 190,150",
        "-fill", "#3f5d3a", "-draw", "polygon 0,264 0,215 140,230 300,212 480,234 480,264", path], check=True)
    return path


def size(png: bytes) -> tuple[int, int]:
    """Width and height, from the header."""
    assert png.startswith(b"\x89PNG")
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
