%% Looking at what one open connection says and hears, for somebody who may read slowly.
%%
%% Runs in the process of its request, and ends with it. Each note is counted off when it has been
%% written, so the connection knows how many are on their way (hornbeam_trace).
-module(hornbeam_control_trace).

-export([run/3]).
-export_type([limits/0]).

-type limits() :: #{seconds := pos_integer(), messages := pos_integer(),
                    bodies := non_neg_integer()}.

%% @doc Give what is said and heard to `Emit', until the limits are reached or the connection ends:
%% then how many messages were dropped in all, and why it is over.
-spec run(hornbeam_connection_registry:id(), limits(), fun((hornbeam_trace:note()) -> ok)) ->
    {ok, #{ended := term(), dropped := non_neg_integer()}} | {error, not_found}.
run(Id, #{seconds := Seconds} = Limits, Emit) ->
    {Ref, Window} = {make_ref(), hornbeam_trace:window()},
    case hornbeam_connection_registry:trace(Id, Limits#{ref => Ref, window => Window}) of
        {ok, Monitor} ->
            _ = erlang:send_after(1000 * Seconds, self(), {trace_ended, Ref, seconds, 0}),
            Outcome = look(Ref, Monitor, Window, Emit, 0),
            hornbeam_connection_registry:stop_trace(Id, Ref),
            {ok, Outcome};
        {error, not_found} = Error ->
            Error
    end.

look(Ref, Monitor, Window, Emit, Dropped) ->
    receive
        {trace, Ref, #{dropped := More} = Note} ->
            ok = Emit(Note),
            hornbeam_trace:taken(Note, Window),
            look(Ref, Monitor, Window, Emit, Dropped + More);
        {trace_ended, Ref, Why, More} ->
            #{ended => Why, dropped => Dropped + More};
        {'DOWN', Monitor, process, _, _} ->
            #{ended => closed, dropped => Dropped}
    end.
