# sdtrt on a CPU. From the root of the repository:
#
#     docker build -f containers/cpu.Dockerfile -t sdtrt .
#     docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/pictures" sdtrt encode photo.jpg
#
# No image has been built of this file yet; its commands were run by hand, in a fresh environment of Python 3.13.
FROM python:3.13-slim AS wheel
# The compiler of the core. Without it the wheel would be complete, but slower.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /sources
COPY . .
RUN pip install --no-cache-dir --root-user-action=ignore -c constraints.txt build setuptools \
    && python -m build --no-isolation

FROM python:3.13-slim
COPY --from=wheel /sources/dist/*.whl /sources/constraints.txt /install/
RUN pip install --no-cache-dir --root-user-action=ignore -c /install/constraints.txt "$(ls /install/*.whl)[cpu]"
WORKDIR /pictures
ENTRYPOINT ["sdtrt"]
CMD ["doctor"]
