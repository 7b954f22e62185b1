"""A real Kubernetes API server on loopback, with etcd behind it, for charts/tests/installed.py.

Objects are validated, admitted, defaulted and stored as by every cluster, and the Pod Security Standards
are enforced. No kubelet, scheduler or controller runs, so nothing that is stored ever starts. The program
is that of charts/tests/apiserver. Server is a context: at its end both processes are gone.
"""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

READY_SECONDS = 120
NAMES = "DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.0.0.1"


def free_ports(count):
    """Ports that are free now; another process may take one before it is bound, which is then said."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


class Server:
    """`kubectl` talks to it; so does whatever gets `kubeconfig`."""

    def __init__(self, program):
        self.program = str(program)
        self.folder = tempfile.TemporaryDirectory()
        self.data = pathlib.Path(self.folder.name)
        self.kubeconfig = self.data / "kubeconfig"
        self.processes = []

    def __enter__(self):
        try:
            self._certificates()
            self._start()
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.folder.cleanup()

    def _openssl(self, *words):
        command = ["openssl", *words]
        done = subprocess.run(command, cwd=self.data, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"kubernetes.py: {' '.join(command)}: {done.stderr}")

    def _certificates(self):
        self._openssl("genrsa", "-out", "sa.key", "2048")
        self._openssl("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")
        new = ["-newkey", "rsa:2048", "-nodes", "-days", "2"]
        self._openssl(
            "req", "-x509", *new, "-subj", "/CN=test-ca", "-keyout", "ca.key", "-out", "ca.pem",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        (self.data / "extensions").write_text(
            f"subjectAltName={NAMES}\nextendedKeyUsage=serverAuth,clientAuth\n"
        )
        for name, subject in (("server", "/CN=server"), ("admin", "/O=system:masters/CN=admin")):
            files = ["-keyout", f"{name}.key", "-out", f"{name}.csr"]
            self._openssl("req", *new[:-2], "-subj", subject, *files)
            self._openssl(
                "x509", "-req", "-days", "2", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-extfile", "extensions", "-out", f"{name}.pem",
            )  # fmt: skip

    def _start(self):
        port, clients, peers = free_ports(3)
        etcd, peer = f"http://127.0.0.1:{clients}", f"http://127.0.0.1:{peers}"
        self._run(
            "etcd", "--data-dir", "etcd", "--unsafe-no-fsync",
            "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}",
        )  # fmt: skip
        self._run(
            "kube-apiserver", "--etcd-servers", etcd, "--bind-address", "127.0.0.1",
            "--secure-port", str(port), "--endpoint-reconciler-type", "none",
            "--tls-cert-file", "server.pem", "--tls-private-key-file", "server.key",
            "--client-ca-file", "ca.pem", "--authorization-mode", "RBAC",
            "--service-account-issuer", "https://kubernetes.default.svc",
            "--service-account-key-file", "sa.pub", "--service-account-signing-key-file", "sa.key",
            "--service-cluster-ip-range", "10.0.0.0/24",
            # It would wait for a controller that makes each namespace's account.
            "--disable-admission-plugins", "ServiceAccount", "--cert-dir", ".",
        )  # fmt: skip
        cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": "ca.pem"}
        admin = {"client-certificate": "admin.pem", "client-key": "admin.key"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": admin}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        self.kubeconfig.write_text(json.dumps(config))
        self.kubeconfig.chmod(0o600)

    def _run(self, name, *options):
        with (self.data / f"{name}.log").open("w") as log:
            self.processes.append(
                subprocess.Popen(
                    [self.program, name, *options],
                    cwd=self.data, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            )

    def _wait(self):
        until = time.monotonic() + READY_SECONDS
        while self.kubectl("get", "--raw", "/readyz").returncode:
            if any(process.poll() is not None for process in self.processes):
                sys.exit(f"kubernetes.py: it ended while it started:\n{self._logs()}")
            if time.monotonic() > until:
                sys.exit(f"kubernetes.py: not ready within {READY_SECONDS} s:\n{self._logs()}")
            time.sleep(0.3)

    def _logs(self):
        logs = (self.data.glob("*.log")) if self.data.exists() else ()
        return "\n".join("\n".join(log.read_text().splitlines()[-8:]) for log in logs)

    def kubectl(self, *words, given=None):
        """What became of it; `given` is an object for its standard input."""
        command = [self.program, "kubectl", "--kubeconfig", str(self.kubeconfig)]
        command += ["--cache-dir", str(self.data / "cache"), *map(str, words)]
        text = None if given is None else json.dumps(given)
        return subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=READY_SECONDS
        )
