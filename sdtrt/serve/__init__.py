"""A service over HTTP: `sdtrt serve`.

application  routes; the way of a request
operations   what can be asked for, by which parameters
handlers     how it is answered
delivery     images and files as responses: negotiation, sizes, ranges, entity tags
shelf        the files under `--root`
workers      a bounded number of calls at once, off the event loop
together     calls of one kind that a device takes in one go
problems     errors as `application/problem+json`
metrics      what Prometheus asks for
openapi      the document that tells machines of the operations
page.html    the front page
"""
