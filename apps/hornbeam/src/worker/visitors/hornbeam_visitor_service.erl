%% What a visitor may want other than ops: a conversation that takes its process and its socket
%% over, once the visitor has been let in.
%%
%% The callback module goes on as that of a gen_statem, in the state `serving', and owns the
%% socket. Who puts a server together names the services that there are.
-module(hornbeam_visitor_service).

-export_type([service/0, services/0]).

-type service() :: {module(), Start :: term()}.
-type services() :: #{Wants :: binary() => service()}.

%% The data that the conversation begins with. A message `read' is due: there may be something.
-callback new(socket:socket(), Start :: term()) -> Data :: term().
