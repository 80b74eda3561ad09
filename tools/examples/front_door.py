"""The package from Python, in fifteen lines: after ``make demo``, with a picture ``person.jpg`` in this folder."""

from pathlib import Path

import reid_mtda as rm

files = sorted(Path("runs/demo/crops/gate").glob("*.jpg"))
model = rm.load_model("runs/demo/student")  # PyTorch is imported by rm.adapt alone
gallery = rm.Gallery.open("runs/my_gallery", model)  # or rm.Gallery.in_memory(model)
gallery.add_many(model.embed(files), camera="gate", pictures=files)
for hit in gallery.search("person.jpg", k=5, where=rm.Filter(cameras=["gate"])).hits:
    print(hit.score, hit.sighting.camera, hit.sighting.start_s)
print(rm.evaluate(model, "market1501", root="runs/demo/test").mAP)
targets = rm.load_crops("runs/demo/crops")
student = rm.adapt(targets=targets, source=None, teacher=model, student="osnet_x0_25", device="auto", out="runs/mine")
