"""What happens when the most relevant pixels go.

The probability of the class while a map's most relevant pixels are replaced by the mean color: a cat, a cup of coffee
and a rocket, the bands their bootstrap intervals. The faster it falls, the better the map knows what the network uses;
but scattered pixels alone destroy any picture, so that the random map is the level to beat, and Grad-CAM does not.
"""

import torch
from skimage import data

from sibx import METHODS, MODELS, build_model, explain
from sibx.evaluation import bootstrap_band
from sibx.images import resize_and_center_crop
from sibx.metrics import deletion
from sibx.report import curve_panel

model = build_model("efficientnet_lite0", 1000, "bundled").eval()
photographs = [torch.from_numpy(p()).permute(2, 0, 1) / 255 for p in (data.chelsea, data.coffee, data.rocket)]
images = torch.stack([resize_and_center_crop(p, 224) for p in photographs])
images = MODELS["efficientnet_lite0"].normalization(images)
target = model(images).argmax(1)

bands = {}
for method in ("control_random", "gradcam", "integrated_gradients"):
    curves = deletion(model, images, explain(model, images, method, target), target, steps=14)
    bands[METHODS[method].title] = bootstrap_band(curves.probabilities.numpy())
figure = curve_panel(curves.fractions.numpy(), bands, x_label="share replaced", y_label="probability of the class")
