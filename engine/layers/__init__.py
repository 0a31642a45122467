"""The two layers over the output of the networks: a DCT-coded residual and a lossless overlay."""
