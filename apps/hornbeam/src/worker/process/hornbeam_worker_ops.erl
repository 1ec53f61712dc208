%% The ops of one Python process, a worker or a visitor: counted, answered by the api, replied to.
%%
%% It has what it takes to answer that process, its writer and its accounts, and lives in the
%% process that reads what it says. It never waits for the pipe, since a full one would stop it: the
%% writer writes, but for the replies to quick ops of a worker, which are tried here. It knows no
%% stream but by its number, and who its client is.
-module(hornbeam_worker_ops).

-export([new/1, with_handle/2, writer/1, events/1, is_apart/2, acknowledged/2, write/2, call/2]).
-export([may_call/1, info/1, answer/3]).
-export_type([ops/0, client/0]).

-record(ops, {
    to :: hornbeam_worker_writer:to(),
    writer :: pid(),
    api :: module(),
    options :: hornbeam_config:app_options(),
    %% none of a visitor, whom nobody calls
    handle = none :: hornbeam_capacity:handle() | none,
    events :: hornbeam_worker_events:events(),
    pending :: hornbeam_worker_pending_ops:ops(),
    tells :: hornbeam_worker_tells:tells(),
    unread :: hornbeam_worker_unread:unread(),
    turns :: pid()
}).
-opaque ops() :: #ops{}.

-type client() :: hornbeam_worker_streams:client() | worker.
%% For whom an op is; see {@link hornbeam_worker_api:context()}.

-type fault() :: too_many_ops | {overspent, tell_window}.

%% @doc None yet, of the calling process. The writer to its Python process is started and linked.
-spec new(#{to := hornbeam_worker_writer:to(), counts := hornbeam_capacity:counts(),
            api := module(), options := hornbeam_config:app_options()}) -> ops().
new(#{to := To, counts := Counts, api := Api, options := Options}) ->
    Pending = hornbeam_worker_pending_ops:new(),
    Unread = hornbeam_worker_unread:new(),
    Writer = hornbeam_worker_writer:start_link(To, Pending, Unread, Counts),
    #ops{to = To, writer = Writer, api = Api, options = Options,
         events = hornbeam_worker_events:new(Writer, Unread), pending = Pending,
         tells = hornbeam_worker_tells:new(Writer), unread = Unread,
         turns = hornbeam_worker_turns:start_link(Writer)}.

%% @doc The same of a worker, which others find by this handle.
-spec with_handle(hornbeam_capacity:handle(), ops()) -> ops().
with_handle(Handle, Ops) ->
    Ops#ops{handle = Handle}.

-spec writer(ops()) -> pid().
writer(#ops{writer = Writer}) ->
    Writer.

-spec events(ops()) -> hornbeam_worker_events:events().
events(#ops{events = Events}) ->
    Events.

%% @doc Bytes of replies, calls and events that are not in the pipe.
-spec info(ops()) -> #{hornbeam_worker_unread:kind() => non_neg_integer()}.
info(#ops{unread = Unread}) ->
    hornbeam_worker_unread:info(Unread).

%% @doc Whether the place of an op among messages does not matter.
-spec is_apart(Op :: non_neg_integer(), ops()) -> boolean().
is_apart(Op, #ops{api = Api}) ->
    Api:is_apart_from_messages(Op).

%% @doc Python has taken off published values of so many bytes; false when it cannot have.
-spec acknowledged(Bytes :: non_neg_integer(), ops()) -> boolean().
acknowledged(Bytes, #ops{events = Events}) ->
    hornbeam_worker_events:acknowledged(Events, Bytes).

%% @doc Tell Python something. Never waits.
-spec write(iodata(), ops()) -> ok.
write(Message, #ops{writer = Writer}) ->
    hornbeam_worker_writer:write(Writer, Message).

%% @doc Have Python called. Never waits.
-spec call(iodata(), ops()) -> ok.
call(Call, #ops{writer = Writer, unread = Unread}) ->
    hornbeam_worker_writer:call(Writer, Unread, Call).

%% @doc Whether Python has read enough of the calls before.
-spec may_call(ops()) -> boolean().
may_call(#ops{api = Api, unread = Unread}) ->
    Api:may_call(hornbeam_worker_unread:bytes(calls, Unread)).

%% @doc Answer an op, or do what Python tells, for a client. The reply comes later, or is none.
-spec answer(hornbeam_packet:message(), client(), ops()) -> ok | {error, fault()}.
answer({op, Number, Ref, Op, Args}, Client, #ops{pending = Pending, api = Api} = Ops) ->
    case hornbeam_worker_pending_ops:enter(Pending) of
        flood ->
            {error, too_many_ops};
        Room ->
            Context = context(Number, Ref, Client, Ops),
            replied(Api:handle_op(Op, Args, Context#{is_crowded := Room =:= full}),
                    Number, Ref, Op, Ops)
    end;
answer({tell, Number, Ref, Op, Args}, Client, #ops{tells = Tells, api = Api} = Ops) ->
    case hornbeam_worker_tells:enter(Tells) of
        overspent ->
            {error, {overspent, tell_window}};
        ok ->
            Context = context(Number, Ref, Client, Ops),
            told(Api:handle_op(Op, Args, Context#{tell => {Op, Tells}}), Number, Ref, Op, Ops)
    end.

context(Number, Ref, Client, Ops) ->
    #ops{options = Options, handle = Handle, writer = Writer, unread = Unread, turns = Turns,
         events = Events} = Ops,
    #{stream => Number, ref => Ref, client => Client, process => self(), handle => Handle,
      writer => Writer, unread => Unread, turns => Turns, events => Events,
      is_crowded => false, options => Options}.

replied({reply, Status, Packed}, Number, Ref, Op, #ops{to = To} = Ops) ->
    IsSooner = element(1, To) =:= pipe andalso is_apart(Op, Ops),
    reply(IsSooner, hornbeam_wire:reply(Number, Ref, Status, Packed), Ops);
replied(noreply, _Number, _Ref, _Op, _Ops) ->
    ok.

%% Nobody waits: it is said only if it went wrong.
told({reply, Status, Packed}, Number, Ref, Op, #ops{tells = Tells} = Ops) ->
    _ = [write(hornbeam_wire:tell_failed(Number, Ref, Op, Status, Packed), Ops) || Status =/= 0],
    hornbeam_worker_tells:done(Tells);
told(noreply, _Number, _Ref, _Op, _Ops) ->
    ok.

%% Whoever waits for it has it soonest from here, where that may overtake what the writer has.
reply(true, Reply, #ops{to = {pipe, Port}, pending = Pending} = Ops) ->
    case hornbeam_worker_port:try_write(Port, Reply) of
        true -> hornbeam_worker_pending_ops:answered(1, Pending);
        false -> reply(false, Reply, Ops)
    end;
reply(false, Reply, #ops{writer = Writer, unread = Unread}) ->
    hornbeam_worker_writer:reply(Writer, Unread, Reply).
