"""Why this class and not that one.

The two classes that the network thinks of first. `contrast` explains the difference of two scores, by any method.
"""

import torch
from skimage import data

from sibx import MODELS, about, build_model, contrast, explain
from sibx.images import fit_picture
from sibx.report import draw_sheet

model = build_model("efficientnet_lite0", 1000, "bundled").eval()
photograph = torch.from_numpy(data.chelsea()).permute(2, 0, 1) / 255
pixels = fit_picture(photograph, 224).pixels[None]  # the whole picture, 224 pixels high
images = MODELS["efficientnet_lite0"].normalization(pixels)

first, second = model(images).topk(2).indices[0].tolist()
names = about(model).classes
maps = {
    f"{names[first]}": explain(model, images, "gradcam", first),
    f"{names[second]}": explain(model, images, "gradcam", second),
    f"{names[first]},\nnot {names[second]}": explain(contrast(model, second), images, "gradcam", first),
    f"{names[second]},\nnot {names[first]}": explain(contrast(model, first), images, "gradcam", second),
}
figure = draw_sheet(pixels, maps)
