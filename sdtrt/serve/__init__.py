"""The HTTP service: `sdtrt serve`.

application   routes and request handling
operations    the operations and their parameters
handlers      a method for each operation
codec_calls   request bodies to response bodies, by a codec
http_caching  media type negotiation, byte ranges, entity tags
storage       the files under `--root`
workers       a bounded thread pool beside the event loop
batcher       micro-batching of requests for a GPU
problems      errors as `application/problem+json`
metrics       metrics for Prometheus
openapi       the OpenAPI document
page          the front page, `page.html`, and its security policy
"""
