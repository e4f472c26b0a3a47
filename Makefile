# Two commands do all the set-up: `make run` and `make test`.
# Everything else is for people who work on Sallyport.

GO        ?= go
BIN       := bin/sallyport
FUZZTIME  ?= 10s
CHECKS    ?= 500
ROUNDS    ?= 3
SIZE      ?= 256
CASES     ?= 1000000
KILLS     ?= 500
SECONDS   ?= 60
FILES     ?= 1000000
OPERATIONS ?= 10000
ACCOUNTS  ?= 10000
SEED      ?= $(shell date +%s)
TOOLS     := $(CURDIR)/.cache/tools
STATICCHECK_VERSION := v0.8.2

export CGO_ENABLED ?= 0
# The Go Cryptographic Module of `make fips`: v1.0.0 is the certified one.
FIPS140   ?= v1.0.0
# What is left out, and why: docs/FIPS.md.
FIPS_STORIES := audit certificates clock clockrecord config damage demo errors explain fips held init interactive keys limits lowered maximum policy ransom readonly repair retention rotation scrub sealed secondfactor serve statecopy statecopydamage statecopyother statefiles stateowner
space := $(subst ,, )

.PHONY: tools transit copies history docs proofs stories fips model run build test unit race e2e bench bruteforce tamper crash fuzz scale lint vulncheck clean e2e-tools

run: build ## build and start a complete server with one account
	./$(BIN) demo

build:
	$(GO) build -trimpath -o $(BIN) ./cmd/sallyport

test: tools lint race stories proofs e2e ## everything that proves it

unit: ## tests without the race detector: quick
	$(GO) test -shuffle=on ./...

race: ## unit, conformance, fuzz seeds
	CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout 20m $$($(GO) list ./... | grep -v '^sallyport/cmd/')

# Not under the race detector: these start many servers, whose keys and password hashes then take ten minutes to make.
stories: ## stories with the real binary, SIGKILL under uploads, the memory of a sealed server
	$(GO) test -shuffle=on -timeout 15m ./cmd/...

proofs: ## what is too dear under the race detector: the tamper sample of 20,000 cases, the shred proof
	$(GO) test -shuffle=on -timeout 15m ./vfs/proof

e2e: build e2e-tools ## real clients: curl, lftp, sftp, sshfs, rclone
	SALLYPORT_BIN=$(CURDIR)/$(BIN) $(GO) test -tags e2e -count=1 -timeout 15m ./cmd/e2e

# Installed where that needs no questions; otherwise it says exactly what is missing, before anything has run.
tools: ## what the tests need beside Go
	@.ci/tools

e2e-tools:
	@.ci/tools clients

bench: build ## the whole server beside the bare libraries and installed peers (OpenSSH, vsftpd)
	$(GO) build -o bin/bench ./cmd/bench
	bin/bench -sallyport $(BIN) -rounds $(ROUNDS) -size $(SIZE)

tamper: ## the tamper machine at length: CASES attacks on what lies on the disk, oracle: exact bytes or an integrity error
	SALLYPORT_TAMPER=$(CASES) SALLYPORT_SEED=$(SEED) $(GO) test -count=1 -timeout 6h -v -run '^TestTamper' ./vfs/proof

crash: ## the crash machine at length: every state after a power loss, every fault, KILLS rounds of SIGKILL on the real server
	SALLYPORT_CRASH=1 $(GO) test -count=1 -timeout 6h -v -run '^(TestCrash.*|TestFaults)$$' ./vfs/proof
	SALLYPORT_KILLS=$(KILLS) $(GO) test -count=1 -timeout 6h -v -run '^TestKill$$' ./cmd/sallyport

# The fake is what `make test` uses; this is how it is known to answer as the real one does.
transit: ## the key service tests with a real Vault or OpenBao: VAULT=/path/to/vault (docs/OPERATIONS.md, Key services)
	@[ -n "$(VAULT)" ] || { echo "make transit: name the binary: make transit VAULT=/path/to/vault (or bao); nothing was tested" >&2; exit 1; }
	@"$(VAULT)" version || { echo "make transit: $(VAULT) does not run; nothing was tested" >&2; exit 1; }
	SALLYPORT_VAULT="$$(command -v $(abspath $(VAULT)) || command -v $(VAULT))" $(GO) test -count=1 -timeout 10m ./crypto/transit
	SALLYPORT_VAULT="$$(command -v $(abspath $(VAULT)) || command -v $(VAULT))" $(GO) test -count=1 -timeout 10m -run '^TestShredProof$$/^transit$$' ./vfs/proof
	SALLYPORT_VAULT="$$(command -v $(abspath $(VAULT)) || command -v $(VAULT))" $(GO) test -count=1 -timeout 15m -run 'Transit|SealRotate|^TestStories$$/^statecopylogin$$' ./cmd/sallyport

bruteforce: build ## hydra and curl guess at an account for SECONDS each; needs hydra (docs/PERFORMANCE.md)
	@command -v hydra >/dev/null 2>&1 || { echo "make bruteforce: hydra is missing: apt-get install hydra" >&2; exit 1; }
	testdata/bruteforce.sh $(BIN) $(SECONDS)

docs: build ## what is made from the tables of the program
	./$(BIN) policy schema --form settings > docs/reference/policy.md
	./$(BIN) policy schema --form refusals > docs/reference/refusals.md
	$(GO) test -count=1 ./server/audit -run Reference -update

# In memory, because some targets need a file each time. And with little minimizing, which is what go test does with most of the time otherwise.
fuzz: ## every fuzz target for FUZZTIME each
	@set -e; if [ -d /dev/shm ]; then TMPDIR=$$(mktemp -d /dev/shm/sallyport-fuzz-XXXXXX); export TMPDIR; trap 'rm -rf "$$TMPDIR"' EXIT; fi; \
	for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg 2>/dev/null | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg; \
	  done; \
	done

scale: ## one volume of FILES files of BYTES at least, a tenth of them in one directory: time and memory of each step
	SALLYPORT_SCALE=$(FILES) SALLYPORT_SCALE_BYTES=$(BYTES) $(GO) test -count=1 -timeout 0 -v -run '^TestScale$$' ./vfs

copies: ## copies of a state of ACCOUNTS accounts: time, memory, what others wait for meanwhile; and the side of the target alone, with ten times as many
	SALLYPORT_COPIES=$(ACCOUNTS) $(GO) test -count=1 -timeout 0 -v -run '^TestManyAccounts$$' ./server/copier
	SALLYPORT_TARGET=$(ACCOUNTS)0 $(GO) test -count=1 -timeout 0 -v -run '^TestManyAccounts$$' ./server/statecopy

history: ## random histories of OPERATIONS changes, one of them purged meanwhile: the trees of then and what a restore brings back
	SALLYPORT_HISTORY=$(OPERATIONS) $(GO) test -count=1 -timeout 0 -v -run '^(TestPastAndRestoreModel|TestThePastIsWholeOrRefused)$$' ./vfs

model: ## the state machines for long: the volume alone, and the volume, SFTP and FTPS side by side
	$(GO) test -tags model -count=1 -timeout 0 -v -run '^TestModel$$' ./vfs ./server/facetest -rapid.checks=$(CHECKS) -rapid.steps=100

fips: ## the program and its tests with the FIPS 140-3 module, nothing else allowed; real clients (docs/FIPS.md)
	GOFIPS140=$(FIPS140) $(GO) build -trimpath -o bin/sallyport-fips ./cmd/sallyport
	GODEBUG=fips140=only ./bin/sallyport-fips version
	GOFIPS140=$(FIPS140) GODEBUG=fips140=only $(GO) test -shuffle=on -timeout 30m ./crypto/... ./policy/... ./vfs/... ./server/...
	GOFIPS140=$(FIPS140) GODEBUG=fips140=only $(GO) test -timeout 30m -run '^TestStories$$/^($(subst $(space),|,$(FIPS_STORIES)))$$|^TestKillDuringPurge$$' ./cmd/sallyport

lint: $(TOOLS)/staticcheck
	@out="$$(gofmt -l $$(git ls-files '*.go'))"; [ -z "$$out" ] || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	$(GO) vet ./... && $(GO) vet -tags e2e,model ./cmd/e2e ./server/facetest
	$(TOOLS)/staticcheck ./...

$(TOOLS)/staticcheck:
	GOBIN=$(TOOLS) $(GO) install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)

vulncheck: ## known vulnerabilities; says so when the tool or its database is out of reach
	@GOBIN=$(TOOLS) $(GO) install golang.org/x/vuln/cmd/govulncheck@v1.1.4 || { echo "vulncheck: NOT RUN: govulncheck cannot be installed here" >&2; exit 1; }
	@$(TOOLS)/govulncheck ./... || { echo "vulncheck: findings, or its database is out of reach (see above)" >&2; exit 1; }

clean:
	rm -rf bin .cache bench-scratch-*
