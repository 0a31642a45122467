# sdtrt on an NVIDIA GPU, with NVIDIA's TensorRT. From the root of the repository:
#
#     docker build -f containers/gpu.Dockerfile -t sdtrt-gpu .
#     docker run --rm --gpus all sdtrt-gpu
#     docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/pictures" sdtrt-gpu encode photo.jpg
#
# No image has been built of this file yet, and nothing of it has run on a GPU. The base image brings TensorRT 10, CUDA
# 13 and Python 3.12; CUDA 13 needs driver 580 or later. An engine fits the TensorRT that built it: build engines
# (`sdtrt engines build`) with this image.
FROM python:3.12-slim AS wheel
# The compiler of the core. Without it the wheel would be complete, but slower.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /sources
COPY . .
RUN pip install --no-cache-dir --root-user-action=ignore -c constraints.txt build setuptools \
    && python -m build --no-isolation

FROM nvcr.io/nvidia/tensorrt:25.10-py3
COPY --from=wheel /sources/dist/*.whl /sources/constraints.txt /install/
# An environment that sees the image's `tensorrt`, and is not bound by what else is installed beside it.
RUN python3 -m venv --system-site-packages /opt/sdtrt \
    && /opt/sdtrt/bin/pip install --no-cache-dir -c /install/constraints.txt "$(ls /install/*.whl)[gpu,onnx]"
ENV PATH=/opt/sdtrt/bin:$PATH
WORKDIR /pictures
ENTRYPOINT ["sdtrt"]
CMD ["doctor"]
