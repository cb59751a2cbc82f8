-- A small shop: enough to read, to change, and to be sorry about.

create table customers (
    id    integer primary key,
    name  text not null,
    email text not null
);

create table orders (
    id          integer primary key,
    customer_id integer not null references customers,
    placed      date not null,
    total_cents integer not null check (total_cents >= 0),
    state       text not null default 'open'
);

create table stock (
    article  text primary key,
    quantity integer not null
);

insert into customers
select n, 'Customer ' || n, 'customer' || n || '@example.com' from generate_series(1, 20) as n;

insert into orders
select n, 1 + n % 20, date '2026-01-01' + n, 1000 + 250 * n, case when n % 3 = 0 then 'paid' else 'open' end
from generate_series(1, 60) as n;

insert into stock values ('lamp', 12), ('chair', 4), ('table', 1);
