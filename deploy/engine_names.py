"""The engines and the files that each of them runs, for command lines: nothing here imports an engine."""

ENGINES = ("openvino", "onnxruntime", "tensorrt")
SUFFIXES = {".onnx": ("openvino", "onnxruntime"), ".plan": ("tensorrt",)}
"""The engines of each kind of file, the preferred one first."""
HINTS = ("latency", "throughput")
"""Whether OpenVINO gives all threads to one picture after the other, or each its own."""
