PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Not compiled to bytecode in advance: most of it is never imported, and that takes a third of the time. What is
# imported must then be kept, or each process compiles it again.
INSTALL = $(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
unexport PYTHONDONTWRITEBYTECODE
# What an installation is made of: it compiles the core, if there is a compiler.
INSTALLED := pyproject.toml constraints.txt setup.py $(shell find kernels/host -type f)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-settings check importroot docs engines gpu-check bench pages vectors fuzz fuzz-core kernels web dist clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## a virtual environment in .venv, with the sources of this folder installed in it

$(STAMP): $(INSTALLED)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[dev]'
	touch $@ $(VENV)/.demo $(VENV)/.engines $(VENV)/.dist

# Less than `make setup` installs, for those who only look: no PyTorch.
$(VENV)/.demo: $(INSTALLED)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[cpu,demo]'
	touch $@

$(VENV)/.engines: $(INSTALLED)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[cpu,onnx]'
	$(BIN)/python -c 'import sys; from sdtrt.engine.networks.backends.trt_library import installed; sys.exit(not installed())' \
		|| $(INSTALL) -e '.[tensorrt-rtx]'
	touch $@

demo: $(VENV)/.demo  ## compress an image and compare it with WebP and JPEG, in demo/ (IMG=photo.jpg)
	$(BIN)/python benchmarks/figure.py photo $(if $(IMG),'$(IMG)')

test: $(STAMP)  ## all tests, on all cores; complete without a GPU
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

test-settings: $(STAMP)  ## all tests with features off, on one core, in pure Python, in other locales, by another user, with `cpu` alone (SETTINGS=)
	tests/settings.sh $(SETTINGS)

check: $(STAMP) importroot  ## format, lint, types, floors; under 30 s
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy -p sdtrt
	$(BIN)/pytest -q tests/test_floors.py tests/test_sizes.py tests/docs/test_changelog.py

importroot:  ## the package as installed, made of links: for type checkers, and where nothing can be installed
	@rm -rf build/importroot && mkdir -p build/importroot/sdtrt
	@ln -s $(CURDIR)/sdtrt/* $(addprefix $(CURDIR)/,engine export kernels) build/importroot/sdtrt/

docs: $(STAMP) importroot  ## the documentation as a site, in build/site; a dead link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

$(VENV)/.bench: $(STAMP)
	$(INSTALL) -e '.[dev,bench]'
	touch $@

bench: $(VENV)/.bench  ## all figures and their tables (KODAK=folder of PNG images, SD1=folder of an sd1 bundle)
	@test -n '$(KODAK)' -a -n '$(SD1)' || { echo 'make bench: say KODAK=folder of images SD1=folder of a bundle' >&2; exit 1; }
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/core.py
	$(BIN)/python benchmarks/core.py --waterfall docs/waterfall.svg
	$(BIN)/python benchmarks/corruption.py
	$(BIN)/python benchmarks/rate.py '$(KODAK)' --model '$(SD1)'
	$(BIN)/python benchmarks/rate_distortion.py '$(KODAK)' --plot docs/rate_distortion.svg
	$(BIN)/python benchmarks/rate_distortion.py '$(KODAK)' --set effort
	$(BIN)/python benchmarks/rate_distortion.py '$(KODAK)' --set blockiness
	$(BIN)/python benchmarks/looks.py '$(KODAK)'
	$(BIN)/python benchmarks/large_images.py '$(KODAK)' --seams --model '$(SD1)'
	$(BIN)/python benchmarks/figure.py codecs
	$(BIN)/python benchmarks/tables.py

pages: $(VENV)/.bench  ## test images of pages and screens, in build/pages (PHOTOS=folder); needs Chromium, Graphviz, apt-get
	@test -n '$(PHOTOS)' || { echo 'make pages: say PHOTOS=folder of photos' >&2; exit 1; }
	$(BIN)/python benchmarks/pages/make.py build/pages --photos '$(PHOTOS)'

vectors: $(STAMP)  ## rewrite the conformance vectors: a change of the format, to be reviewed as one
	$(BIN)/python tests/vectors/make.py
	$(BIN)/python tests/vectors/make_broken.py

engines: $(VENV)/.engines  ## TensorRT engines of a bundle (BUNDLE=folder, TARGET=sm89,…)
	@$(BIN)/sdtrt engines build $(BUNDLE) $(if $(TARGET),--target $(TARGET))

kernels: $(VENV)/.demo  ## the CUDA kernels, compiled to kernels/data/kernels.fatbin; needs nvcc, no GPU
	@$(BIN)/python -m sdtrt.kernels.build

gpu-check:  ## checks and figures that need a GPU; run again for missing sections (SECTIONS=, BUNDLE=, DECODES=; any Python: BIN=)
	$(BIN)/python benchmarks/gpu_check.py $(if $(SECTIONS),--sections '$(SECTIONS)') $(if $(BUNDLE),--bundle '$(BUNDLE)') \
		$(if $(DECODES),--decodes $(DECODES))

$(VENV)/.fuzz: $(STAMP)
	$(INSTALL) -e '.[dev,fuzz]'
	touch $@

fuzz: $(VENV)/.fuzz  ## a coverage-guided attack on the decoder, for SECONDS= (default 600); needs Linux
	@rm -rf build/fuzz && mkdir -p build/fuzz
	$(BIN)/python tests/fuzz/fuzz_files.py --seeds build/fuzz
	$(BIN)/python tests/fuzz/fuzz_files.py build/fuzz -max_total_time=$(or $(SECONDS),600) \
		-timeout=20 -rss_limit_mb=2000 -artifact_prefix=build/

CLANG ?= clang++
FUZZ_FLAGS := -std=c++17 -g -O2 -ffp-contract=off -pthread -D_GLIBCXX_ASSERTIONS -Ikernels/host \
	-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fno-sanitize-coverage=trace-cmp
# Not the module for Python: module.cpp needs an interpreter.
FUZZ_SOURCES := $(filter-out %/module.cpp,$(filter %.cpp,$(INSTALLED))) tests/fuzz/fuzz_core.cpp

fuzz-core: $(STAMP)  ## the same on the compiled core, under sanitizers, for RUNS= executions (default 1000000); needs clang, Linux
	@command -v $(CLANG) > /dev/null || { echo 'make fuzz-core: $(CLANG) not found. Install clang with libFuzzer' \
		'(Debian: apt-get install clang libclang-rt-dev), or say CLANG=program' >&2; exit 1; }
	@rm -rf build/fuzz_core && mkdir -p build/fuzz_core/seeds build/fuzz_core/corpus
	$(CLANG) $(FUZZ_FLAGS) $(FUZZ_SOURCES) -o build/fuzz_core/fuzz_core
	$(BIN)/python tests/fuzz/core_inputs.py build/fuzz_core/fuzz_core.arrays build/fuzz_core/seeds
	ASAN_OPTIONS=quarantine_size_mb=16:malloc_context_size=5 UBSAN_OPTIONS=print_stacktrace=1 \
		build/fuzz_core/fuzz_core build/fuzz_core/corpus build/fuzz_core/seeds -runs=$(or $(RUNS),1000000) \
		-max_len=1024 -entropic=0 -timeout=300 -rss_limit_mb=2000 -artifact_prefix=build/

web:  ## the JavaScript decoder: types, tests, and the viewer for `sdtrt view`, in web/dist; needs Node
	cd web && npm ci && npm run check && npm test && node build.mjs

$(VENV)/.dist: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[dist]'
	touch $@

# The wheels are built from the sdist, so that an sdist without something that a wheel needs is noticed.
dist: $(VENV)/.dist  ## sdist, a wheel with the compiled core and a pure one in dist/; fails if one has 12 MB or more
	@rm -rf dist && mkdir -p build
	@$(BIN)/python -m build --no-isolation > build/dist.log 2>&1 || { cat build/dist.log >&2; exit 1; }
	@rm -rf build/pure && mkdir -p build/pure && tar xzf dist/*.tar.gz -C build/pure --strip-components 1
	@SDTRT_PURE=1 $(BIN)/python -m build --no-isolation --wheel -o dist build/pure > build/pure.log 2>&1 \
		|| { cat build/pure.log >&2; exit 1; }
	@$(BIN)/python -m zipfile -l dist/*-abi3-*.whl | grep kernels/_core > /dev/null || { echo 'make dist: no compiled core' >&2; exit 1; }
	@wc -c dist/*.tar.gz dist/*.whl
	@for wheel in dist/*.whl; do test $$(wc -c < $$wheel) -lt 12000000 \
		|| { echo "make dist: $$wheel has 12 MB or more" >&2; exit 1; }; done

clean:  ## remove what was built; .venv stays
	rm -rf build dist demo web/dist kernels/_core* *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find sdtrt engine export kernels tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
