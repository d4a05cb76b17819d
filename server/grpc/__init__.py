"""The Open Inference Protocol (v2) over gRPC, with the health service of gRPC."""
