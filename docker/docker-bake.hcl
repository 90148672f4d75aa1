# All variants from the one Dockerfile: docker buildx bake -f docker/docker-bake.hcl [TARGET...]
variable "VERSION" { default = "dev" }
variable "REVISION" { default = "unknown" }
variable "MODELS" { default = "longaxis bagging_accurate" }
variable "IMAGES" { default = "clementpoiret/bids-hsf" }

group "default" {
  targets = ["openvino"]
}

target "common" {
  args = {
    VERSION = VERSION
    REVISION = REVISION
    MODELS = MODELS
  }
}

function "tags" {
  params = [suffix]
  result = [for image in split(",", IMAGES) : "${image}:${VERSION}${suffix}"]
}

# The published one: OpenVINO on x86-64, the CPU provider on arm64.
target "openvino" {
  inherits = ["common"]
  tags = tags("")
  args = { ONNXRUNTIME = "openvino" }
}

target "cpu" {
  inherits = ["common"]
  tags = tags("-cpu")
  args = { ONNXRUNTIME = "cpu" }
}

# CUDA and cuDNN are inside; the host brings the driver: docker run --gpus all
target "cuda" {
  inherits = ["common"]
  tags = tags("-cuda")
  args = { ONNXRUNTIME = "cuda" }
  platforms = ["linux/amd64"]
}
