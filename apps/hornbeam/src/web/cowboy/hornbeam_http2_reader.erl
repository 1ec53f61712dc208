%% Reads a connection of HTTP/2 for Cowboy: the process that the socket is told to.
%%
%%   socket ──bytes──▶ reader ──frames, whole heads──▶ Cowboy's process
%%                       │ a head too large, or late: a frame that is none
%%
%% Cowboy takes heads as they come, however long they are, however long they take and whatever they
%% become when they are decoded. Here they are held back and looked at (hornbeam_http2_frames).
%% Instead of one that is refused Cowboy gets a frame that nobody may send, so that it ends the
%% connection in order (GOAWAY, mostly with PROTOCOL_ERROR), and nothing of what follows.
%%
%% Trailers Cowboy reads and drops, and tells nobody that they end a body: it is told here, to the
%% streams that have asked for it. They ask by an alias, which ends with them: what came later for
%% a stream that is over would be a riddle to Cowboy.
%%
%% Cowboy reads by the callbacks of its transport (hornbeam_cowboy_transport), which come here; it
%% writes past this process. The socket is this process's, which lives as long as Cowboy's.
-module(hornbeam_http2_reader).

-export([start/3, set_options/2, messages/0]).
-export([tell_trailed/3, forget/2]).
-export([loop/1]).

-record(reader, {
    socket :: hornbeam_socket:socket(),
    %% how long what is held may take (ms), and where it is counted that it is refused
    timeout :: pos_integer(),
    counters :: hornbeam_counters:ref(),
    %% Cowboy's process, and our monitor of it
    connection :: pid(),
    monitor :: reference(),
    %% refused: nothing goes on any more
    frames :: hornbeam_http2_frames:frames() | refused,
    %% who is told that a stream's trailers have gone on
    asking = #{} :: #{cowboy_stream:streamid() => reference()},
    %% those that have trailers and have not asked, and how many of them may do so yet
    trailed = [] :: [cowboy_stream:streamid()],
    most :: pos_integer(),
    %% when what is held must be whole (monotonic time, ms)
    deadline = infinity :: integer() | infinity
}).

-define(DATA, ?MODULE).
-define(CLOSED, hornbeam_http2_closed).
-define(ERROR, hornbeam_http2_error).
-define(PASSIVE, hornbeam_http2_passive).

%% RFC 9113, 6.7: a PING is of no stream, or the connection is over.
-define(NO_FRAME, <<8:24, 6, 0, 1:32, 0:64>>).

%% When nothing has come for so long the process gives its memory back (ms).
-define(QUIET, 1000).

%% @doc Read the socket of the calling process, Cowboy's, for it; `First' was read already.
-spec start(hornbeam_socket:socket(), First :: binary(), hornbeam_mounts:mounts()) ->
    {ok, pid()} | {error, term()}.
start({Transport, Raw} = Socket, First, #{server := Server, counters := Counters}) ->
    #{limit_request_head := Limit, header_timeout := Timeout, http2_max_streams := Most} = Server,
    Connection = self(),
    Reader = spawn(fun() -> begun(First, #reader{
        socket = Socket, timeout = Timeout, counters = Counters, connection = Connection,
        monitor = erlang:monitor(process, Connection), most = Most,
        frames = hornbeam_http2_frames:new(Limit)})
    end),
    case Transport:controlling_process(Raw, Reader) of
        ok -> {ok, Reader};
        {error, _} = Error -> Error
    end.

begun(First, Reader) ->
    loop(came(First, Reader)).

%% @doc Set the socket's options, for which Cowboy asks to get what comes.
-spec set_options(pid(), list()) -> ok.
set_options(Reader, Options) ->
    Reader ! {set_options, Options},
    ok.

%% @doc Have the calling process, Cowboy's, told by an alias of its own that a stream's trailers
%% have come, behind all that came before: `{{Pid, StreamId}, trailed}', which is for its handlers.
-spec tell_trailed(pid(), cowboy_stream:streamid(), Alias :: reference()) -> ok.
tell_trailed(Reader, StreamId, Alias) ->
    Reader ! {tell_trailed, StreamId, Alias},
    ok.

%% @doc A stream that has asked is over.
-spec forget(pid(), cowboy_stream:streamid()) -> ok.
forget(Reader, StreamId) ->
    Reader ! {forget, StreamId},
    ok.

%% @doc The names of the messages that Cowboy's process gets.
-spec messages() -> {Data :: atom(), Closed :: atom(), Error :: atom(), Passive :: atom()}.
messages() ->
    {?DATA, ?CLOSED, ?ERROR, ?PASSIVE}.

%% @private
-spec loop(#reader{}) -> ok.
loop(#reader{socket = {_, Raw}, monitor = Monitor} = Reader) ->
    receive
        {Data, Raw, Bytes} when Data =:= tcp; Data =:= ssl ->
            loop(came(Bytes, Reader));
        {Passive, Raw} when Passive =:= tcp_passive; Passive =:= ssl_passive ->
            loop(told({?PASSIVE, Raw}, Reader));
        {Closed, Raw} when Closed =:= tcp_closed; Closed =:= ssl_closed ->
            loop(told({?CLOSED, Raw}, Reader));
        {Error, Raw, Reason} when Error =:= tcp_error; Error =:= ssl_error ->
            loop(told({?ERROR, Raw, Reason}, Reader));
        {set_options, Options} ->
            loop(set(Options, Reader));
        {tell_trailed, StreamId, Alias} ->
            loop(asked(StreamId, Alias, Reader));
        {forget, StreamId} ->
            loop(Reader#reader{asking = maps:remove(StreamId, Reader#reader.asking)});
        {'DOWN', Monitor, process, _, _} ->
            ok
    after patience(Reader) ->
        silent(Reader)
    end.

patience(#reader{deadline = infinity}) -> ?QUIET;
patience(#reader{deadline = Deadline}) -> max(0, Deadline - now_ms()).

silent(#reader{deadline = infinity} = Reader) ->
    erlang:hibernate(?MODULE, loop, [Reader]);
silent(Reader) ->
    loop(refused(head_timeout, <<>>, Reader)).

now_ms() -> erlang:monotonic_time(millisecond).

%% That the socket is closed already no message may tell any more.
set(Options, #reader{socket = {Transport, Raw}} = Reader) ->
    case Transport:setopts(Raw, Options) of
        ok -> Reader;
        {error, _} -> told({?CLOSED, Raw}, Reader)
    end.

told(Message, #reader{connection = Connection} = Reader) ->
    Connection ! Message,
    Reader.

came(_Bytes, #reader{frames = refused} = Reader) ->
    Reader;
came(Bytes, #reader{frames = Before} = Reader) ->
    case hornbeam_http2_frames:read(Bytes, Before) of
        {ok, Passing, After} ->
            {Trailed, Frames} = hornbeam_http2_frames:trailed(After),
            Passed = timed(Passing, passed(Passing, Reader#reader{frames = Frames})),
            lists:foldl(fun trailed/2, Passed, Trailed);
        {fault, Fault, Passing} -> refused(Fault, Passing, Reader)
    end.

passed(<<>>, Reader) -> Reader;
passed(Bytes, #reader{socket = {_, Raw}} = Reader) -> told({?DATA, Raw, Bytes}, Reader).

asked(StreamId, Alias, #reader{asking = Asking, trailed = Trailed} = Reader) ->
    case lists:member(StreamId, Trailed) of
        true -> tell(StreamId, Alias, Reader#reader{trailed = lists:delete(StreamId, Trailed)});
        false -> Reader#reader{asking = Asking#{StreamId => Alias}}
    end.

%% Some never ask: those that Cowboy answers by itself. More than may be open a client does not
%% begin before it has been answered.
trailed(StreamId, #reader{asking = Asking, trailed = Trailed, most = Most} = Reader) ->
    case maps:take(StreamId, Asking) of
        {Alias, Others} -> tell(StreamId, Alias, Reader#reader{asking = Others});
        error -> Reader#reader{trailed = lists:sublist([StreamId | Trailed], Most)}
    end.

tell(StreamId, Alias, #reader{connection = Connection} = Reader) ->
    Alias ! {{Connection, StreamId}, trailed},
    Reader.

%% What is held has one deadline, from its first byte on. If something went on, what was held is
%% among it, and what is held now has begun with this read.
timed(Passing, #reader{frames = Frames, deadline = Deadline} = Reader) ->
    case hornbeam_http2_frames:is_held(Frames) of
        false -> Reader#reader{deadline = infinity};
        true when Deadline =:= infinity; Passing =/= <<>> ->
            Reader#reader{deadline = deadline(Reader)};
        true -> Reader
    end.

deadline(#reader{timeout = Timeout}) ->
    now_ms() + Timeout.

refused(Fault, Before, #reader{counters = Counters} = Reader) ->
    hornbeam_error_response:count(Fault, Counters),
    passed(<<Before/binary, ?NO_FRAME/binary>>,
           Reader#reader{frames = refused, deadline = infinity}).
