# Makes the JPEG images of this folder, except photo.jpg, and beside each the pixels that
# Pillow decodes from it, as a PNG image of the same name. Pillow 13.0.0 has libjpeg-turbo 3.2.0.
#
#   pip install pillow==13.0.0 simplejpeg numpy && python make.py
import io

import numpy as np
import simplejpeg
from PIL import Image


def picture(h, w):
    """A smooth field with strong colour edges and some noise, [h][w][RGB]."""
    y, x = np.mgrid[0:h, 0:w].astype(float)
    r = 128 + 120 * np.sin(x / 3 + y / 7)
    g = 128 + 120 * np.cos(y / 4 - x / 9)
    b = 255.0 * ((x // 5 + y // 3) % 2)
    noise = np.random.default_rng(h * 100 + w).normal(0, 10, (h, w, 3))
    return np.clip(np.stack([r, g, b], 2) + noise, 0, 255).astype(np.uint8)


def save(name, data):
    open(name + ".jpg", "wb").write(data)
    image = Image.open(name + ".jpg")
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    image.save(name + ".png", optimize=True)


for sampling in ("444", "422", "420", "440", "411"):
    for h, w in ((32, 32), (17, 21)):
        save(f"{sampling}_{h}x{w}", simplejpeg.encode_jpeg(picture(h, w), quality=85, colorsubsampling=sampling))
# libjpeg-turbo repeats chroma of up to two columns. It interpolates wider chroma.
for sampling in ("422", "420", "440"):
    for w in (1, 2, 3, 4, 5, 6):
        save(f"{sampling}_5x{w}", simplejpeg.encode_jpeg(picture(5, w), quality=90, colorsubsampling=sampling))
for name, options in (("progressive", {"progressive": True}), ("grey", {})):
    data = io.BytesIO()
    image = Image.fromarray(picture(19, 23))
    if name == "grey":
        image = image.convert("L")
    image.save(data, "jpeg", quality=80, **options)
    save(name, data.getvalue())
