"""The table of all that the command can be told: names, kinds, defaults, and whose words.

Flags, variables, keys of files and docs/guide/command.md come from here. The rows that are options
of the server have its names (hornbeam_config); tests hold them to docs/guide/configuration.md.
Pure: it reads no value.
"""

from dataclasses import dataclass

from hornbeam_erlang._command.values import Kind

SECRET = frozenset({"keyfile_password", "dashboard_token", "env", "cluster_cookie"})
"""Of which no value is shown, also of one that is none."""

INFINITY = ("infinity",)


@dataclass(frozen=True)
class Row:
    """One thing to say: by its flags, by variables, and by a key of a file."""

    name: str
    """Its key in a file; an option of hornbeam_config unless `means` says otherwise."""
    kind: Kind
    default: str
    """As a user would write it; empty where there is none."""
    help: str
    flags: tuple[str, ...] = ()
    """What others call it, and letters; its own flag is its name."""
    words: tuple[str, ...] = ()
    """What may stand in the place of a value, or all that there is."""
    variables: tuple[str, ...] = ()
    """Variables that others read too, after ours."""
    means: str | None = None
    """The option that it is another way to say; itself where that is None."""

    @property
    def target(self) -> str:
        return self.means or self.name

    @property
    def long_flags(self) -> tuple[str, ...]:
        """All names with two dashes, its own first."""
        own = "--" + self.name.replace("_", "-")
        return (own, *(flag for flag in self.flags if flag.startswith("--") and flag != own))

    @property
    def short_flags(self) -> tuple[str, ...]:
        return tuple(flag for flag in self.flags if not flag.startswith("--"))

    @property
    def all_variables(self) -> tuple[str, ...]:
        if self.name in WITHOUT_VARIABLE:
            return self.variables
        return (*map(variable, self.long_flags), *self.variables)

    @property
    def keys(self) -> tuple[str, ...]:
        """What it may be called in a file."""
        return tuple(flag.removeprefix("--").replace("-", "_") for flag in self.long_flags)


def variable(flag: str) -> str:
    return "HORNBEAM_" + flag.removeprefix("--").replace("-", "_").upper()


WITHOUT_VARIABLE = frozenset({"env"})
"""HORNBEAM_ENV is what apps call their own settings."""

SECTIONS: dict[str, tuple[Row, ...]] = {
    "Address": (
        Row("bind", Kind.ADDRESSES, "127.0.0.1:8000",
            "Where to listen: IP:PORT, [IPV6]:PORT, localhost:PORT, unix:PATH or fd:NUMBER; may be "
            "said several times.",
            ("-b",)),
        Row("host", Kind.TEXT, "", "The address alone, such as 0.0.0.0 or ::1.", means="bind"),
        Row("port", Kind.COUNT, "", "The port alone; 0 lets the system choose.",
            variables=("PORT",), means="bind"),
        Row("uds", Kind.PATH, "", "A Unix socket instead.", means="bind"),
        Row("fd", Kind.COUNT, "", "A socket that this process was started with, by its descriptor, "
            "such as systemd's 3.", means="bind"),
        Row("redirect_http", Kind.TEXT, "",
            "Where to listen without TLS, to send everybody to the same page over TLS."),
        Row("redirect_port", Kind.COUNT, "",
            "The port that they are sent to; the default is that of the first address."),
        Row("uds_permissions", Kind.TEXT, "",
            "Who may use a Unix socket, as the mode of a file, such as 660."),
        Row("backlog", Kind.COUNT, "2048",
            "How many connections may wait to be accepted by the server."),
        Row("root_path", Kind.TEXT, "", "The path below which a proxy serves the app."),
        Row("health_path", Kind.TEXT, "",
            "Where the server itself answers whether it is ready, such as /healthz."),
        Row("http_engine", Kind.WORD, "hornbeam", "What serves HTTP/1.1 and its WebSockets.",
            words=("hornbeam", "cowboy")),
    ),
    "App": (
        Row("mount", Kind.MOUNTS, "",
            "Another app at a path, such as /api=api:app; may be said several times.",
            means="mounts"),
        Row("factory", Kind.SWITCH, "false", "APP is a function that returns the app."),
        Row("worker_class", Kind.WORD, "asgi", "The interface that the app speaks.", ("-k",),
            words=("asgi", "asgi2", "wsgi")),
        Row("interface", Kind.WORD, "", "The same, as uvicorn calls it.",
            words=("auto", "asgi3", "asgi2", "wsgi"), means="worker_class"),
        Row("chdir", Kind.PATH, ".", "The workers' folder, from which the app is imported."),
        Row("pythonpath", Kind.PATHS, "", "Folders in front of sys.path."),
        Row("app_dir", Kind.PATH, "", "One more, in front of those.", means="pythonpath"),
        Row("python", Kind.PATH, "",
            "The interpreter of the workers; the default is the one that runs this command."),
        Row("venv", Kind.PATH, "", "A virtual environment, whose interpreter runs them."),
        Row("env", Kind.FIELDS, "", "A variable for the workers' environment.", ("-e",)),
        Row("env_file", Kind.PATH, "", "A file of such variables, which gives way to those that "
            "are there.", means="env"),
        Row("loop", Kind.WORD, "auto", "The event loop.", words=("auto", "uvloop", "asyncio")),
        Row("lifespan", Kind.WORD, "auto", "Whether the app must support the lifespan protocol.",
            words=("auto", "on", "off")),
        Row("on_connect", Kind.TEXT, "",
            "Erlang code that is asked before the app, as MODULE:FUNCTION."),
        Row("on_connect_timeout", Kind.DURATION, "5s", "How long it may take."),
        Row("rpc_allow", Kind.NAMES, "",
            "Erlang functions that the app may call, as MODULE or MODULE:FUNCTION/ARITY."),
        Row("op_timeout", Kind.DURATION, "5s",
            "How long a call into Erlang waits that names no time of its own."),
    ),
    "Workers": (
        Row("workers", Kind.COUNT, "1", "How many Python processes run the app.", ("-w",),
            variables=("WEB_CONCURRENCY",)),
        Row("threads", Kind.COUNT, "10",
            "How many requests of a WSGI app one worker runs at once."),
        Row("worker_connections", Kind.COUNT, "infinity",
            "How many requests and WebSockets one worker is given at once; of a WSGI app as many "
            "as it has threads.", words=INFINITY),
        Row("queue_timeout", Kind.DURATION, "30s",
            "How long a request waits for a worker."),
        Row("queue_max", Kind.COUNT, "1024", "How many may wait so."),
        Row("affinity", Kind.TEXT, "none",
            "What keeps the requests of a session together on one worker: client, socketio, mcp, "
            "cookie:NAME (the app's), set-cookie:NAME (set by the server), query:NAME or "
            "header:NAME.", words=("none", "client", "socketio", "mcp")),
        Row("affinity_timeout", Kind.DURATION, "1h",
            "A session that nobody has used for so long is forgotten."),
        Row("affinity_max_sessions", Kind.COUNT, "100000", "How many are remembered."),
        Row("max_requests", Kind.COUNT, "infinity",
            "A worker that was given so many requests and messages is replaced.",
            ("--limit-max-requests",), INFINITY),
        Row("max_requests_jitter", Kind.COUNT, "0", "At most so many more, at random.",
            ("--limit-max-requests-jitter",)),
        Row("worker_max_age", Kind.DURATION, "infinity", "A worker so old is replaced.",
            words=INFINITY),
        Row("worker_max_age_jitter", Kind.DURATION, "0", "At most so much later, at random."),
        Row("worker_max_rss", Kind.SIZE, "infinity", "A worker with so much memory is replaced.",
            words=INFINITY),
        Row("worker_hang_timeout", Kind.DURATION, "1m",
            "A worker whose event loop, or all of whose threads, stand still for so long is killed "
            "and replaced.",
            ("--timeout-worker-healthcheck",), INFINITY),
        Row("startup_timeout", Kind.DURATION, "5m", "From a worker's start to its being ready."),
        Row("drain_timeout", Kind.DURATION, "30s",
            "What requests and WebSockets of a worker that is replaced have to end."),
        Row("shutdown_timeout", Kind.DURATION, "10s",
            "What requests have to finish when the server stops, and then the workers.",
            ("--timeout-graceful-shutdown", "--graceful-timeout")),
        Row("drain_delay", Kind.DURATION, "0",
            "How long all is served after a signal to stop, while --health-path says 503."),
    ),
    "Development": (
        Row("reload", Kind.SWITCH, "false",
            "Load the code anew when a file is saved; open WebSockets go on."),
        Row("reload_dirs", Kind.PATHS, "", "Folders to watch instead of the app's.",
            ("--reload-dir",)),
        Row("reload_includes", Kind.NAMES, "", "Files that count beside *.py.",
            ("--reload-include",)),
        Row("reload_excludes", Kind.NAMES, "", "Files and folders that do not count.",
            ("--reload-exclude",)),
        Row("reload_delay", Kind.DURATION, "50ms",
            "How long files have to be quiet before they are loaded."),
    ),
    "Time and size of requests": (
        Row("timeout", Kind.DURATION, "30s", "From a request to the begin of its response.",
            words=INFINITY),
        Row("header_timeout", Kind.DURATION, "10s", "What a client has to send a request's head."),
        Row("keepalive_timeout", Kind.DURATION, "75s",
            "How long a connection is kept for its next request.",
            ("--timeout-keep-alive", "--keep-alive")),
        Row("max_connections", Kind.COUNT, "infinity",
            "Open connections, and requests in progress; one more gets 503.",
            ("--limit-concurrency",), INFINITY),
        Row("max_body_size", Kind.SIZE, "infinity", "The largest body of a request.",
            words=INFINITY),
        Row("limit_request_line", Kind.SIZE, "16K", "The longest request line."),
        Row("limit_request_fields", Kind.COUNT, "100", "The most header fields of a request."),
        Row("limit_request_field_size", Kind.SIZE, "16K", "The largest of them."),
        Row("limit_request_head", Kind.SIZE, "64K", "The largest head as a whole."),
        Row("limit_response_head", Kind.SIZE, "64K", "The largest head of an answer."),
        Row("limit_response_fields", Kind.COUNT, "256", "The most headers in it."),
        Row("http2_max_streams", Kind.COUNT, "100",
            "How many requests an HTTP/2 connection may have open."),
        Row("http2_max_resets", Kind.COUNT, "500",
            "How many of them may be broken off within 10 s."),
        Row("http2_max_frames", Kind.COUNT, "100000",
            "How many frames an HTTP/2 client may send within 10 s."),
    ),
    "WebSockets": (
        Row("websocket_ping_interval", Kind.DURATION, "20s", "How often the server pings.",
            ("--ws-ping-interval",), INFINITY),
        Row("websocket_timeout", Kind.DURATION, "60s",
            "A client that was silent for so long, not even answering pings, is cut off.",
            words=INFINITY),
        Row("ws_ping_timeout", Kind.DURATION, "",
            "The same, counted from a ping, as uvicorn does.", means="websocket_timeout"),
        Row("websocket_max_frame_size", Kind.SIZE, "16M", "The largest message from a client.",
            ("--ws-max-size",)),
        Row("websocket_max_frame_rate", Kind.COUNT, "infinity",
            "How many frames a second a client may send.", words=INFINITY),
        Row("websocket_compress", Kind.SWITCH, "false",
            "Negotiate permessage-deflate with clients that offer it."),
        Row("ws_per_message_deflate", Kind.TEXT, "", "The same, with the value true or false.",
            means="websocket_compress"),
        Row("websocket_resume", Kind.SWITCH, "false",
            "Open WebSockets go on with another worker when theirs ends; on with --reload."),
        Row("websocket_resume_attempts", Kind.COUNT, "5",
            "After so many workers in a row that soon ended a socket is closed."),
        Row("websocket_resume_timeout", Kind.DURATION, "2m",
            "How long a socket waits for a worker that goes on."),
    ),
    "Who may connect": (
        Row("forwarded_allow_ips", Kind.NAMES, "127.0.0.1,::1",
            "Proxies whose X-Forwarded-* are believed: addresses, ranges, unix for those by a Unix "
            "socket, * for all.", words=("any", "*"), variables=("FORWARDED_ALLOW_IPS",)),
        Row("proxy_headers", Kind.SWITCH, "true", "Whether any of them is.",
            means="forwarded_allow_ips"),
        Row("proxy_protocol", Kind.SWITCH, "false",
            "Connections of proxies begin with who their client is (PROXY protocol)."),
        Row("proxy_protocol_from", Kind.NAMES, "127.0.0.1,::1",
            "Proxies that speak it, and must: addresses, ranges, unix, * for all.",
            ("--proxy-allow-from",), words=("any", "*")),
        Row("allowed_hosts", Kind.NAMES, "any",
            "Hosts that a request may name, such as *.example.org; * is any.", words=("any", "*")),
        Row("allowed_origins", Kind.NAMES, "same_host",
            "Whose pages may open WebSockets, such as https://*.example.org; * is any.",
            words=("any", "*", "same_host")),
    ),
    "What every answer has": (
        Row("headers", Kind.LINES, "", "A header for each answer that has none of this name.",
            ("--header",)),
        Row("request_id", Kind.SWITCH, "false",
            "Each request and its answer have an X-Request-ID: a trusted proxy's, or a new one."),
        Row("server_header", Kind.SWITCH, "true", "Whether it says `server: hornbeam`."),
        Row("date_header", Kind.SWITCH, "true", "Whether it says the date."),
    ),
    "TLS": (
        Row("certfile", Kind.PATH, "", "The server's certificate and its chain (PEM).",
            ("--ssl-certfile",)),
        Row("keyfile", Kind.PATH, "", "Its private key (PEM).", ("--ssl-keyfile",)),
        Row("keyfile_password", Kind.TEXT, "",
            "What decrypts the key; better said by its variable.", ("--ssl-keyfile-password",)),
        Row("cacertfile", Kind.PATH, "", "Authorities by which clients' certificates are verified.",
            ("--ssl-ca-certs", "--ca-certs")),
        Row("verify", Kind.WORD, "none", "Clients' certificates.",
            words=("none", "optional", "required")),
        Row("ssl_cert_reqs", Kind.WORD, "", "The same in numbers, as Python's ssl has it.",
            ("--cert-reqs",), words=("0", "1", "2"), means="verify"),
        Row("tls_versions", Kind.NAMES, "tlsv1.2,tlsv1.3", "Which versions of TLS are spoken.",
            words=("tlsv1.2", "tlsv1.3")),
        Row("ciphers", Kind.NAMES, "", "Names of cipher suites.", ("--ssl-ciphers",)),
    ),
    "Who operates the server": (
        Row("metrics", Kind.ADDRESS, "false",
            "Serve metrics for Prometheus at IP:PORT, [IPV6]:PORT or localhost:PORT; at "
            "127.0.0.1:9464 where no address is given."),
        Row("dashboard", Kind.SWITCH, "false",
            "Show a live page of the server at the address of metrics; the banner has its link."),
        Row("dashboard_token", Kind.TEXT, "",
            "What opens that page, also from other machines; better said by its variable."),
    ),
    "Cluster": (
        Row("cluster", Kind.TEXT, "",
            "The name of the cluster that this node is of; without one it is alone."),
        Row("join", Kind.NAMES, "",
            "Hosts of the cluster's nodes, as HOST or HOST:PORT; a name of DNS stands for all of "
            "its addresses.", means="cluster"),
        Row("cluster_port", Kind.COUNT, "4370", "The port at which they reach each other.",
            means="cluster"),
        Row("cluster_address", Kind.TEXT, "",
            "The IP address of this machine by which they do; the default is that from which it "
            "reaches the others.", means="cluster"),
        Row("cluster_cookie_file", Kind.PATH, "", "A file with a secret that all nodes share.",
            means="cluster"),
        Row("cluster_cookie", Kind.TEXT, "",
            "The secret itself, by its variable or a file: who looks at this machine's processes "
            "would see the flag.", means="cluster"),
        Row("cluster_certfile", Kind.PATH, "",
            "A certificate of this node (PEM), with which nodes speak TLS to each other.",
            means="cluster"),
        Row("cluster_keyfile", Kind.PATH, "",
            "Its private key (PEM), if that is not in the same file.", means="cluster"),
        Row("cluster_cacertfile", Kind.PATH, "",
            "The authority whose certificates the cluster's nodes have (PEM).", means="cluster"),
        Row("cluster_data_dir", Kind.PATH, "",
            "A folder for the consistent state; without one there is none.", means="cluster"),
        Row("cluster_members", Kind.COUNT, "",
            "How many nodes begin the consistent state together: the same number on all of them.",
            means="cluster"),
        Row("peer_max_unsent_bytes", Kind.SIZE, "64M",
            "What may wait for each of the other nodes."),
        Row("peer_max_undelivered_bytes", Kind.SIZE, "64M",
            "What of the messages that are published there may wait here."),
    ),
    "What apps may keep": (
        Row("state_max_bytes", Kind.SIZE, "1G", "Of all kinds together.", words=INFINITY),
        Row("state_max_rows", Kind.COUNT, "10000000", "The same in rows.", words=INFINITY),
        Row("connection_state_max_bytes", Kind.SIZE, "16M", "For one connection.", words=INFINITY),
        Row("connection_state_max_rows", Kind.COUNT, "100000", "The same in rows.", words=INFINITY),
        Row("connection_max_topics", Kind.COUNT, "10000",
            "How many topics one connection may have subscribed to.", words=INFINITY),
        Row("worker_max_hooks", Kind.COUNT, "1000", "How many hooks a worker may have.",
            words=INFINITY),
        Row("worker_max_executions", Kind.COUNT, "4096",
            "How many calls of execute_async one worker may have.", words=INFINITY),
        Row("worker_max_unread_bytes", Kind.SIZE, "256M",
            "What may wait for one worker to read it.", words=INFINITY),
        Row("local_socket", Kind.PATH, "auto",
            "Where processes outside of the workers come in that are this user's.",
            words=("auto", "off")),
        Row("pubsub_queue_messages", Kind.COUNT, "1000",
            "How many published messages may wait for one connection."),
        Row("pubsub_queue_bytes", Kind.SIZE, "1M", "The same in bytes."),
        Row("pubsub_overflow", Kind.WORD, "drop_oldest",
            "What happens when a client is too slow for that.",
            words=("drop_oldest", "close", "latest")),
    ),
    "What the terminal shows": (
        Row("access_log", Kind.SWITCH, "true",
            "A line on standard output for each request and WebSocket."),
        Row("access_log_format", Kind.TEXT, "short",
            "How it looks: a name, or text with Apache's directives.",
            words=("short", "common", "combined", "json")),
        Row("log_level", Kind.WORD, "info", "What is logged.",
            words=("critical", "error", "warning", "info", "debug", "trace"), means="command"),
        Row("log_config", Kind.PATH, "", "A file that configures the app's logging: JSON, YAML, or "
            "what logging.config.fileConfig reads."),
        Row("use_colors", Kind.SWITCH, "", "Colours; the default is where a terminal is.",
            means="command"),
    ),
}  # fmt: skip

ROWS: tuple[Row, ...] = tuple(row for rows in SECTIONS.values() for row in rows)

ELSEWHERE = {
    "--http": "the server has one HTTP implementation for each version of it; see --http-engine",
    "--http2": "HTTP/2 needs no switch: clients choose it by TLS, or by prior knowledge",
    "--ws": "the server has a WebSocket engine of its own; see --http-engine",
    "--ws-max-queue": "what a client sends is held back as soon as the app does not take it, by "
    "size and number, so there is no queue to be bounded",
    "--h11-max-incomplete-event-size": "say --limit-request-head, the most bytes of a head",
    "--ssl-version": "say --tls-versions tlsv1.3 to speak only that",
    "--reset-contextvars": "each request has a context of its own already, and apps see what their "
    "lifespan has set",
    "--preload": "workers share no memory: each imports the app; the first failure fails the start",
    "--daemon": "the command stays in the foreground: let systemd or a container keep it",
    "--pid": "the command is one process from its start to its end: its parent knows the number",
}
"""Flags of others that mean nothing here, and what to do instead."""
