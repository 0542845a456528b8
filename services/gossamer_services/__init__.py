"""gRPC services of Gossamer; ``gossamer serve`` starts them."""
