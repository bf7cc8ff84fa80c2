"""One photograph, five methods.

EfficientNet-Lite0 with its ImageNet weights, and the class that it predicts. Every map has its own scale: brightness
says where, not how much.
"""

import torch
from skimage import data

from sibx import MODELS, about, build_model, explain
from sibx.images import fit_picture
from sibx.report import draw_sheet

model = build_model("efficientnet_lite0", 1000, "bundled").eval()
photograph = torch.from_numpy(data.chelsea()).permute(2, 0, 1) / 255  # (3, H, W) in [0, 1]
pixels = fit_picture(photograph, 224).pixels[None]  # the whole picture, 224 pixels high
images = MODELS["efficientnet_lite0"].normalization(pixels)

titles = {
    "sib": "VJP-IB",
    "saliency": "Saliency",
    "integrated_gradients": "Integrated Gradients",
    "gradcam": "Grad-CAM",
    "layercam": "LayerCAM",
}
maps = {title: explain(model, images, method) for method, title in titles.items()}
predicted = about(model).classes[int(model(images).argmax())]
figure = draw_sheet(pixels, maps, predicted)
