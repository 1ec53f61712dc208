%% The process of a connection that speaks HTTP/1.1: its messages, its time and its writes. What it
%% all means stands in hornbeam_http1_connection.
%%
%%   wait ──▶ a step ──▶ gather ──▶ flush ──▶ wait
%%
%% What is to be written while more has come is one write.
-module(hornbeam_http1).

-export([serve/3]).
-export([loop/1, system_continue/3, system_terminate/4, system_code_change/4]).

-record(http1, {
    parent :: pid(),
    %% of whose messages the process waits for
    socket :: term(),
    connection :: hornbeam_http1_connection:connection(),
    %% whether the process has given its memory back
    is_idle = false :: boolean()
}).

-type result() :: ended | {http2, First :: binary()}.
%% What has come of HTTP/2 on a socket that is passive again.

%% The least heap of a process that serves requests, so that not each of them needs a collection,
%% and the least of all (words).
-define(BUSY_HEAP, 2586).
-define(IDLE_HEAP, 233).

%% @doc Serve a connection. Returns when it has ended, when its client begins with HTTP/2, or never
%% when a WebSocket has become of it.
-spec serve(pid(), hornbeam_socket:socket(), hornbeam_mounts:mounts()) -> result().
serve(Parent, {_Transport, Raw} = Socket, Mounts) ->
    case hornbeam_http1_request:template(Socket) of
        {ok, Template} ->
            _ = process_flag(trap_exit, true),
            _ = process_flag(min_heap_size, ?BUSY_HEAP),
            Connection = hornbeam_http1_connection:new(Socket, Template, Mounts),
            go_on(hornbeam_http1_connection:start(Connection),
                  #http1{parent = Parent, socket = Raw, connection = Connection});
        error ->
            ended
    end.

go_on({ok, Connection}, Http1) ->
    loop(Http1#http1{connection = Connection});
go_on({idle, Connection}, Http1) ->
    rest(Http1#http1{connection = Connection, is_idle = true});
go_on({websocket, Start, Session}, #http1{parent = Parent}) ->
    forget(),
    hornbeam_websocket:start(Parent, Start, hornbeam_websocket_session, Session);
go_on(Result, _Http1) ->
    Result.

%% What requests have needed is given back. A collection costs a third of a request.
rest(Http1) ->
    _ = process_flag(min_heap_size, ?IDLE_HEAP),
    forget(),
    true = garbage_collect(),
    loop(Http1).

%% What requests need to know, they find anew.
forget() ->
    hornbeam_mounts:rest(),
    hornbeam_date:forget().

busy(#http1{is_idle = false} = Http1) ->
    Http1;
busy(Http1) ->
    _ = process_flag(min_heap_size, ?BUSY_HEAP),
    Http1#http1{is_idle = false}.

%% @private
-spec loop(#http1{}) -> result().
loop(#http1{connection = Connection} = Http1) ->
    case hornbeam_http1_connection:output(Connection) of
        none -> wait(Http1);
        some -> gather(Http1);
        full -> flush(Http1)
    end.

gather(#http1{connection = Connection} = Http1) ->
    Self = self(),
    receive
        {{Self, Number}, Message} ->
            go_on(hornbeam_http1_connection:handle_info(Number, Message, Connection), Http1)
    after 0 ->
        flush(Http1)
    end.

flush(#http1{connection = Connection} = Http1) ->
    go_on(hornbeam_http1_connection:flush(Connection), Http1).

wait(#http1{socket = Socket, parent = Parent, connection = Connection} = Http1) ->
    Self = self(),
    receive
        {Tag, Socket, Data} when Tag =:= tcp; Tag =:= ssl ->
            go_on(hornbeam_http1_connection:data(Data, Connection), busy(Http1));
        {{Self, Number}, Message} ->
            go_on(hornbeam_http1_connection:handle_info(Number, Message, Connection), Http1);
        {Tag, Socket} when Tag =:= tcp_passive; Tag =:= ssl_passive ->
            go_on(hornbeam_http1_connection:passive(Connection), Http1);
        {Tag, Socket} when Tag =:= tcp_closed; Tag =:= ssl_closed ->
            hornbeam_http1_connection:client_closed(Connection);
        {Tag, Socket, _Reason} when Tag =:= tcp_error; Tag =:= ssl_error ->
            hornbeam_http1_connection:client_closed(Connection);
        {'EXIT', Parent, _Reason} ->
            go_on(hornbeam_http1_connection:leave(Connection), Http1);
        {'EXIT', _Other, _Reason} ->
            loop(Http1);
        {system, From, Request} ->
            sys:handle_system_msg(Request, From, Parent, ?MODULE, [], Http1);
        {'$gen_call', From, Asked} when Asked =:= which_children; Asked =:= count_children ->
            hornbeam_childless:answer(Asked, From),
            loop(Http1);
        Message ->
            go_on(hornbeam_http1_connection:handle_info(Message, Connection), Http1)
    after hornbeam_http1_connection:timeout(Connection) ->
        go_on(hornbeam_http1_connection:handle_timeout(Connection), Http1)
    end.

%% @private
-spec system_continue(pid(), [sys:dbg_opt()], #http1{}) -> result().
system_continue(_Parent, _Debug, Http1) ->
    loop(Http1).

%% @private
-spec system_terminate(term(), pid(), [sys:dbg_opt()], #http1{}) -> no_return().
system_terminate(Reason, _Parent, _Debug, #http1{connection = Connection}) ->
    ended = hornbeam_http1_connection:close(Connection),
    exit(Reason).

%% @private
-spec system_code_change(#http1{}, module(), term(), term()) -> {ok, #http1{}}.
system_code_change(Http1, _Module, _OldVersion, _Extra) ->
    {ok, Http1}.
