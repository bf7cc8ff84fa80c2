"""Where a CAM is drawn.

The units of the last layer look at points that lie 32 pixels apart. Drawn in equal cells, as other libraries do, the
same map is shifted, here to the upper left by half of that.
"""

import torch
from skimage import data

from sibx import MODELS, GradCAM, build_model, to_heatmap
from sibx.images import fit_picture
from sibx.report import draw_sheet

model = build_model("efficientnet_lite0", 1000, "bundled").eval()
photograph = torch.from_numpy(data.chelsea()).permute(2, 0, 1) / 255
pixels = fit_picture(photograph, 224).pixels[None]  # the whole picture, 224 pixels high
images = MODELS["efficientnet_lite0"].normalization(pixels)
target = model(images).argmax(1)

titles = {"receptive_field": "where its units look", "half_pixel": "in equal cells"}
maps = {
    title: to_heatmap(GradCAM(model, align=align).attribute(images, target=target), pixels.shape[2:], "positive_sum")
    for align, title in titles.items()
}
figure = draw_sheet(pixels, maps)
