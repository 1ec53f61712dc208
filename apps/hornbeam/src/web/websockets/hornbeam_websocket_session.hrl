%% A WebSocket as its handler, its handshake and its going on with another worker know it.

-type code() :: 1000..4999.

-type sent() :: give_credit | acknowledge.
%% The app gets credit for what has left; what others have sent is acknowledged.

-type phase() ::
    open
    | {moving, Why :: binary()}
    | {pausing, Why :: binary()}
    | {waiting, Why :: binary(), hornbeam_pool_place:wait()}
    | {spread, Why :: binary(), hornbeam_capacity:handle()}
    | reopening
    | failing.
%% `Why': what became of the worker before, as docs/wire.md has it. What is failing gets the app's
%% answers to what came before the client's wrong frame, then the close that is noted.

-type about() :: {Path :: binary(), Peer :: {binary(), inet:port_number()} | undefined,
                  Opened :: integer()}.
%% Monotonic seconds.

-record(session, {
    mount :: hornbeam_mounts:mount(),
    stream :: hornbeam_stream:stream(),
    number :: pos_integer(),
    worker :: reference() | undefined,
    phase = open :: phase(),
    %% which session of the app it is of, for whom it goes on with
    affinity = none :: hornbeam_pool_place:session(),
    %% whether the last ping has no answer yet
    pinged = false :: boolean(),
    %% for whoever asks
    id :: hornbeam_connection_registry:id() | undefined,
    about :: about(),
    %% what events say of the request that it was
    context = #{} :: hornbeam_trace_context:context(),
    received = {0, 0} :: {Messages :: non_neg_integer(), Bytes :: non_neg_integer()},
    delivered = {0, 0} :: {Messages :: non_neg_integer(), Bytes :: non_neg_integer()},
    %% undefined where a socket ends with its worker
    resume :: hornbeam_resume_state:state() | undefined,
    %% when the wait for an app that goes on is over
    deadline :: reference() | undefined,
    %% the connection's socket, which over HTTP/2 is not ours alone
    tcp :: hornbeam_socket:socket(),
    %% what the client may send before the app takes some of it
    credit :: {Bytes :: integer(), Messages :: integer()},
    %% what was given to the socket and is not given back as credit
    sent = {0, 0} :: {Bytes :: non_neg_integer(), Messages :: non_neg_integer()},
    %% what others than the app sent, was given to the socket and is not acknowledged: messages,
    %% bytes, and whether it is acknowledged when what was said has left, or has to be as soon as
    %% there is something
    forwarded = none :: {hornbeam_outbox:outbox(), non_neg_integer(), non_neg_integer(),
                         idle | eager | soon} | none,
    %% what the engine is to be asked to tell, once all that is said now has left
    ask = [] :: [sent()],
    trace = off :: hornbeam_trace:trace(),
    %% how we closed it, once we did
    closed :: {code(), binary()} | undefined
}).
