%% The rooms that nodes have for publish and subscribe (hornbeam_links). One for what is published,
%% and another for what they tell each other of their subscribers: so neither is told of what the
%% other has lost.
-define(COUNTS_ROOM, pubsub).
-define(PUBLISH_ROOM, publish).
