# Each target is a thin line over nbgrader or gradekit. `make help` lists them.
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
A ?=
STUDENTS ?= 12
SEED ?= 1

.DEFAULT_GOAL := course
.PHONY: course test install release grade feedback report formgrader doctor gpu-check clean help

course: install ## Set everything up and run the whole course with a class of $(STUDENTS): the default
	@$(BIN)/gradekit demo --students $(STUDENTS) --seed $(SEED)
	@$(BIN)/gradekit report

test: $(VENV)/.installed-dev ## Set everything up and run every check and test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/gradekit sync --check
	$(BIN)/gradekit check
	$(BIN)/pytest

install: $(VENV)/.installed ## Make the virtual environment

release: need-assignment install ## make release A=<assignment>: make the student version and release it
	$(BIN)/gradekit sync
	$(BIN)/nbgrader generate_assignment $(A) --force
	$(BIN)/nbgrader release_assignment $(A) --force

grade: need-assignment install ## make grade A=<assignment>: collect and grade in the sandbox
	$(BIN)/nbgrader collect $(A) --update
	$(BIN)/gradekit grade $(A)

feedback: need-assignment install ## make feedback A=<assignment>: write the students' feedback and release it
	$(BIN)/gradekit feedback $(A)

report: install ## Write a page on each assignment and one on the class into reports/
	$(BIN)/gradekit report

formgrader: install ## Open JupyterLab with nbgrader's tabs on this course
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root)

doctor: install ## Say what this machine has, and what to do about what it lacks
	$(BIN)/gradekit doctor

gpu-check: install ## On a GPU machine: run module 1.3's reference with real kernels, each against the roof of the same run
	$(BIN)/gradekit bench gpu

clean: ## Throw away releases, submissions, marks and feedback; source and .venv stay
	rm -rf release/*/ submitted/*/ autograded/*/ autograded/.staging feedback/*/ exchange .demo gradebook.db* reports .gradekit.log

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: need-assignment
need-assignment:
	@test -n "$(A)" || { echo "make: name the assignment, for example: make $(firstword $(MAKECMDGOALS)) A=1.3-cuda-python" >&2; exit 2; }

$(VENV)/.installed: pyproject.toml constraints.txt tooling/bootstrap.sh
	@tooling/bootstrap.sh $(VENV) cluster
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed tooling/system-packages.sh containers/proxy/package-lock.json
	@tooling/system-packages.sh
	@npm ci --prefix containers/proxy --silent
	@tooling/bootstrap.sh $(VENV) cluster,dev
	@touch $@
