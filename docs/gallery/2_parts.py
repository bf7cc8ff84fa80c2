"""The map R, its mask M, and the two parts.

R says for every pixel how the score changes with it. M is high where large values of R lie close together, and splits R
into a foreground R M and a background R (1 - M).
"""

import torch
from skimage import data

from sibx import MODELS, SIBAttribution, build_model, to_heatmap
from sibx.images import fit_picture
from sibx.report import draw_sheet

model = build_model("efficientnet_lite0", 1000, "bundled").eval()
photograph = torch.from_numpy(data.chelsea()).permute(2, 0, 1) / 255
pixels = fit_picture(photograph, 224).pixels[None]  # the whole picture, 224 pixels high
images = MODELS["efficientnet_lite0"].normalization(pixels)
target = model(images).argmax(1)

titles = {"vjp": "R", "mask": "M", "foreground": "R M", "background": "R (1 - M)"}
maps = {
    title: to_heatmap(SIBAttribution(model, output=part).attribute(images, target=target), pixels.shape[2:], "l2")
    for part, title in titles.items()
}
figure = draw_sheet(pixels, maps)
