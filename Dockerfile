# The package in a container, for machines that it can't be installed on: docker build -t nldf .
#
#     docker run --rm -v .:/data nldf nldf demo -o /data/demo.mp4
#     docker run --rm -v .:/data nldf nldf prepare /data/speaker.mp4 -o /data/speaker
#
# torch is the smaller one without CUDA; --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 takes another.
ARG PYTHON=3.13

# What compiling needs; .devcontainer stops here.
FROM python:${PYTHON}-slim AS tools
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ make git libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/*

FROM tools AS wheel
COPY . /src
RUN pip wheel --no-cache-dir --no-deps -w /wheels -C cmake.define.NLDF_BUNDLE_OPENMP=ON /src

FROM python:${PYTHON}-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# OpenCV's wheel wants these two; rendering alone would do without.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple torch \
 && pip install --no-cache-dir "$(ls /wheels/*.whl)[all]" \
 && rm -r /wheels
# Signing keys and caches of whoever runs it; a volume there keeps them.
ENV HOME=/home/nldf
RUN mkdir -m 1777 /home/nldf
USER nobody
WORKDIR /data
EXPOSE 8765 40000-40100/udp
CMD ["nldf", "doctor"]
