# Short names for what is done often. `./dev` needs none of this; `./dev setup` installs `just`.

# lists the recipes
default:
    @just --list --unsorted

# starts an edge and two nodes on this machine and deploys examples/hello
up:
    ./dev up

# stops them
down *flags:
    ./dev down {{ flags }}

# every check and test
test:
    ./dev test

# the web platform's own tests, of a checkout of web-platform-tests that is brought by hand, against the web classes of apps
wpt dir *flags:
    cargo test -p berth-script --test wpt -- {{ absolute_path(dir) }} {{ flags }}

# end-to-end scenarios: all, or one group
e2e group="":
    cargo test --workspace --test e2e -- {{ group }}

# records what workerd answers to the programs in tests/differential anew, and shows where Berth differs: all, one case, or `lists`
differential case="":
    cargo build --workspace --bins --test e2e
    "${CARGO_TARGET_DIR:-target}/debug/differential" {{ case }}

# attacks from inside a container, with and without the layers that stop them
attack:
    scripts/test --only attack

# fuzzes the admin API of a real edge from its own description
fuzz-api:
    scripts/test --only build
    scripts/test --only api

# installs Berth on this machine as systemd units (DESTDIR and PREFIX as usual); `just dist` makes the programs
install *flags:
    systemd/install install {{ flags }}

# stops and removes what `install` installed; state, disks and users stay (systemd/install purge removes them too)
uninstall *flags:
    systemd/install uninstall {{ flags }}

# units, limits, quotas, restarts and shutdown in a virtual machine with systemd and cgroup v2
vm:
    scripts/test --only build
    tests/vm/vm build
    tests/vm/vm run

# the end-to-end scenarios with full counts, and without a group the model and the simulated world, too: takes long, not for CI
soak group="":
    BERTH_SOAK=1 cargo test --workspace --test e2e -- {{ group }}
    [ -n "{{ group }}" ] || BERTH_SOAK=1 just model
    [ -n "{{ group }}" ] || BERTH_SOAK=1 just world

# daemons killed and stopped, machines gone, wires cut, in an order that a seed says (BERTH_CHAOS_SEED); with BERTH_SOAK=1, 50 rounds
chaos:
    cargo test --workspace --test e2e -- chaos:: --nocapture

# visits every state of the model of terms and fences; with BERTH_SOAK=1, of larger ones
model:
    cargo test -p berth-model --lib -- --nocapture

# the engine in its simulated world, and what each missing rule breaks there; with BERTH_SOAK=1, a hundred times as much
world:
    cargo test -p berth-engine --test world -- --nocapture

# request to a new ID until the first byte, beside podman, and starts in a second; writes target/bench/cold.json
bench-cold:
    cargo build --profile measure --workspace --bins
    "${CARGO_TARGET_DIR:-target}/measure/bench-cold"

# memory of idle daemons and of each container, what a hostile one costs, and the agent's size; writes target/bench/footprint.json
bench-footprint:
    cargo build --profile measure --workspace --bins
    tests/bench-footprint

# an image pulled until it can be started, beside skopeo with umoci, and podman; writes target/bench/images.json
bench-images:
    cargo build --profile measure --workspace --bins
    "${CARGO_TARGET_DIR:-target}/measure/bench-images"

# latency of one app's requests while another's clients attack; writes target/bench/neighbours.json
bench-neighbours:
    cargo build --profile measure --workspace --bins
    "${CARGO_TARGET_DIR:-target}/measure/bench-neighbours"

# what a reservation of room takes with 10 and with 1,000 nodes; writes target/bench/placement.json
bench-placement:
    cargo build --profile measure --workspace --bins
    "${CARGO_TARGET_DIR:-target}/measure/bench-placement"

# CPU of an edge with one node and with 200 while nothing happens; writes target/bench/nodes.json
bench-nodes:
    cargo build --profile measure --workspace --bins
    "${CARGO_TARGET_DIR:-target}/measure/bench-nodes"

# requests/s through edge and agent, beside nginx; writes target/bench/proxy.json
bench-proxy:
    cargo build --profile measure --workspace --bins
    "${CARGO_TARGET_DIR:-target}/measure/bench-proxy"

# programs beside workerd and beside a container, and other apps while a program is hostile; writes target/bench/script.json
bench-script:
    cargo build --profile measure --workspace --bins
    "${CARGO_TARGET_DIR:-target}/measure/bench-script"
    cargo test --profile measure --workspace --test script -- bench

# an edge with a million objects: restart, memory, look-ups, durable puts/s beside redis; writes target/bench/store.json
bench-store:
    cargo build --profile measure --workspace --bins
    "${CARGO_TARGET_DIR:-target}/measure/bench-store"

# builds the examples as static binaries, into target/examples
examples:
    ./dev examples

# builds static binaries, into target/dist
dist *flags:
    ./dev dist {{ flags }}

# formats everything
fmt:
    cargo fmt --all
    cargo fmt --manifest-path fuzz/Cargo.toml

# lints, dependencies' licences and sources
lint:
    ./dev test fmt lint deny

# runs one fuzz target, or each of them, for some seconds (needs a nightly toolchain)
fuzz target="" seconds="60":
    for t in {{ if target == "" { "$(cargo +nightly fuzz list)" } else { target } }}; do scripts/test --fuzz "$t" {{ seconds }} || exit 1; done

# builds the documentation of the code
docs:
    cargo doc --workspace --no-deps --document-private-items
