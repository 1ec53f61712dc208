%% Listens at the local socket of a server, and gives each that comes a process of its own.
%%
%% It owns no visitor: when it crashes they live on, and its successor listens at the same place.
-module(hornbeam_visitor_listener).
-behaviour(gen_server).

-export([start_link/1, info/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, accept/1]).

-record(state, {
    path :: hornbeam_local_socket:path(),
    socket :: socket:socket()
}).

%% The pause (ms) when none can be let in, for want of descriptors.
-define(PAUSE, 100).

-spec start_link(hornbeam_local_socket:path()) -> gen_server:start_ret().
start_link(Path) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Path, []).

%% @doc Where the socket is, and how many have come by it and are there; empty where there is none.
-spec info() -> #{local_socket => hornbeam_local_socket:path(), visitors => non_neg_integer()}.
info() ->
    try
        gen_server:call(?MODULE, info)
    catch
        exit:_ -> #{}
    end.

%% @private
-spec init(hornbeam_local_socket:path()) ->
    {ok, #state{}} | {stop, {shutdown, {local_socket, unicode:chardata()}}}.
init(Path) ->
    process_flag(trap_exit, true),
    case hornbeam_local_socket:listen(Path) of
        {ok, Socket} ->
            _ = proc_lib:spawn_link(?MODULE, accept, [Socket]),
            {ok, #state{path = Path, socket = Socket}};
        {error, Sentence} ->
            {stop, {shutdown, {local_socket, Sentence}}}
    end.

%% @private Ends with the socket.
-spec accept(socket:socket()) -> ok.
accept(Listening) ->
    case socket:accept(Listening) of
        {ok, Socket} ->
            admit(Socket, hornbeam_visitor_sup:start_visitor()),
            ?MODULE:accept(Listening);
        {error, closed} ->
            ok;
        {error, _} ->
            receive after ?PAUSE -> ?MODULE:accept(Listening) end
    end.

admit(Socket, Visitor) ->
    ok = socket:setopt(Socket, {otp, controlling_process}, Visitor),
    hornbeam_visitor:take(Visitor, Socket).

%% @private
-spec handle_call(info, gen_server:from(), #state{}) -> {reply, map(), #state{}}.
handle_call(info, _From, #state{path = Path} = State) ->
    {reply, #{local_socket => Path, visitors => hornbeam_visitor_sup:count()}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({'EXIT', _Acceptor, Reason}, State) ->
    {stop, {acceptor, Reason}, State};
handle_info(_Stray, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(shutdown, #state{path = Path, socket = Socket}) ->
    ok = socket:close(Socket),
    hornbeam_socket_file:remove(Path);
terminate(_Crash, _State) ->
    ok.
