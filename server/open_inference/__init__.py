"""The Open Inference Protocol (v2) without a transport: models, tensors, parameters and the inference itself."""
