%% @doc One of all: of the processes that stand for a name, one leads.
%%
%% Who stands may be any process of any node of the cluster, and a Python worker is one. The first
%% that comes leads until it resigns or ends, whatever ends it; then the next one in line does. Each
%% leader has a fencing token, an integer that is greater than all before it: whatever is changed in
%% the leader's name can remember the greatest and refuse a smaller one.
%%
%% Where the cluster has a consistent state ({@link hornbeam_consensus}) that decides, and there are
%% never two. Without it the nodes that see each other agree: two parts of a cluster that do not
%% reach each other have a leader each, and when they do again one of the two has lost.
%%
%% <pre>
%% {ok, Token} = hornbeam_leader:lead(&lt;&lt;"nightly"&gt;&gt;),
%% receive {hornbeam_leader, lost, &lt;&lt;"nightly"&gt;&gt;, Token} -> stop() end
%% </pre>
-module(hornbeam_leader).

-export([lead/1, lead/2, resign/1, leading/0]).
-export([stand/4, await/4, withdraw/2]).
-export_type([name/0, kind/0, standing/0]).

-type name() :: binary().

-type kind() :: leader | lock.
%% A `lock' is had by the consistent state or not at all.

-type standing() :: {hornbeam_leader_candidate:token(), hornbeam_leader_candidate:lease()}.

-type unavailable() :: hornbeam_consensus:unavailable().

%% @doc Wait until the calling process leads.
-spec lead(name()) -> {ok, hornbeam_fencing_token:token()}.
lead(Name) ->
    lead(Name, infinity).

%% @doc The same for at most `Timeout' milliseconds, after which the process stands no more.
%%
%% When it has lost the lead it is sent `{hornbeam_leader, lost, Name, Token}' once, and is to stop
%% what it does as leader. It may lead again when it calls this again.
-spec lead(name(), timeout()) -> {ok, hornbeam_fencing_token:token()} | {error, timeout}.
lead(Name, Timeout) when is_binary(Name) ->
    ok = stood(stand(self(), Name, Name, leader)),
    case await(self(), Name, 0, Timeout) of
        {ok, {0, _Lease}} -> ok = resign(Name), {error, timeout};
        {ok, {Token, _Lease}} -> {ok, Token}
    end.

stood(ok) -> ok;
stood({error, Reason}) -> error(Reason).

%% @doc Let the next one lead, or stand no more. What has been said of the lead is taken back.
-spec resign(name()) -> ok.
resign(Name) when is_binary(Name) ->
    ok = withdraw(self(), Name),
    receive
        {hornbeam_leader, lost, Name, _Token} -> ok
    after 0 ->
        ok
    end.

%% @doc Who leads on this node, and by which token.
-spec leading() -> [{name(), Owner :: pid(), hornbeam_fencing_token:token()}].
leading() ->
    hornbeam_leader_candidates:leading().

%% What the ops are made of.

%% @doc Let a process stand for a name until it ends; `Ref' tells what it stands for apart.
-spec stand(Owner :: pid(), Ref :: term(), name(), kind()) ->
    ok | {error, too_many_candidates | unavailable()}.
stand(Owner, Ref, Name, Kind) ->
    case hornbeam_consensus:decides(Kind) of
        {ok, By} -> hornbeam_leader_candidates:start({Owner, Ref}, Name, By);
        {error, _} = Error -> Error
    end.

%% @doc Wait until its token is another one than `Known', or `Timeout' milliseconds; 0 is none. The
%% lease says for how many milliseconds from now on that is certain.
-spec await(Owner :: pid(), Ref :: term(), Known :: hornbeam_leader_candidate:token(), timeout()) ->
    {ok, standing()} | {error, unknown_candidate}.
await(Owner, Ref, Known, Timeout) ->
    hornbeam_leader_candidates:ask({Owner, Ref}, {await, Known, Timeout}).

%% @doc Let it stand, or lead, no more.
-spec withdraw(Owner :: pid(), Ref :: term()) -> ok.
withdraw(Owner, Ref) ->
    case hornbeam_leader_candidates:ask({Owner, Ref}, withdraw) of
        ok -> ok;
        {error, unknown_candidate} -> ok
    end.
