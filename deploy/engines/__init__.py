"""TensorRT engines: built from exported ONNX files, checked before they are loaded, and run. No torch."""
