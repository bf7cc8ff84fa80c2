"""Controls: maps that never look at a network.

Images of the embedded benchmark with the outline of the object's mask. A method whose maps lie on objects no better
than these has shown nothing.
"""

from sibx import METHODS, build_dataset, build_model, explain, montage
from sibx.datasets import collate

data = build_dataset("synthetic", split="test-id", image_size=96)
batch = collate([data[i] for i in (0, 9, 18, 27)])
model = build_model("tiny_cnn", 8)  # any: it is not looked at

controls = [name for name, spec in METHODS.items() if spec.kind == "control"]
maps = {name.removeprefix("control_").replace("_", " "): explain(model, batch.images, name) for name in controls}
names = [data.classes[label] for label in batch.labels]
figure = montage(data.normalization.inverse(batch.images), batch.masks, maps, names)
