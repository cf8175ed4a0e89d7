-- An attempt whose end tells when it began is one row, the end. A version that does not know the column reads the ends, and
-- misses the beginnings.
alter table omniq_event add column began integer;
create index omniq_event_began on omniq_event(began) where began is not null;
