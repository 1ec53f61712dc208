%% The links to the other nodes.
%%
%%   hornbeam_links_sup            rest_for_one
%%   ├── hornbeam_link_sup         simple_one_for_one: N × hornbeam_link (+ its writer)
%%   └── hornbeam_links            begins them, and knows the rooms
%%
%% What they know stands in tables that others own, so each goes on where it was.
-module(hornbeam_links_sup).
-behaviour(supervisor).

-export([start_link/0, start_link_to/2, end_links/0]).
-export([init/1]).

-define(LINKS, hornbeam_link_sup).

-spec start_link() -> {ok, pid()}.
start_link() ->
    %% Those of one that was killed are on their way out, and have their names until then.
    Before = [erlang:monitor(process, Name) || Name <- [?LINKS, hornbeam_links]],
    lists:foreach(fun(Ref) -> receive {'DOWN', Ref, process, _, _} -> ok end end, Before),
    {ok, Pid} = supervisor:start_link({local, ?MODULE}, ?MODULE, tree),
    {ok, Pid}.

%% @doc Begin to speak with a node; what it has said already, if anything. `none' if it is not
%% connected any more.
-spec start_link_to(node(), hornbeam_link:greeting()) -> pid() | none.
start_link_to(Node, Greeting) ->
    case supervisor:start_child(?LINKS, [Node, Greeting]) of
        {ok, Link} when is_pid(Link) -> Link;
        {ok, undefined} -> none
    end.

%% @doc End all links that there are.
-spec end_links() -> ok.
end_links() ->
    lists:foreach(fun({_, Link, _, _}) ->
        _ = supervisor:terminate_child(?LINKS, Link)
    end, supervisor:which_children(?LINKS)).

%% @private
-spec init(tree | links) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(tree) ->
    Links = #{id => ?LINKS, start => {supervisor, start_link, [{local, ?LINKS}, ?MODULE, links]},
              type => supervisor},
    Server = #{id => hornbeam_links, start => {hornbeam_links, start_link, []}},
    {ok, {#{strategy => rest_for_one, intensity => 10, period => 10}, [Links, Server]}};
init(links) ->
    Link = #{id => hornbeam_link, start => {hornbeam_link, start_link, []},
             restart => temporary, shutdown => 1000},
    {ok, {#{strategy => simple_one_for_one}, [Link]}}.
