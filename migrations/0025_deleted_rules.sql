-- Rules that were deleted: deliveries that they planned keep their hours.
CREATE TABLE deleted_rules (
    id          uuid PRIMARY KEY,
    key         text NOT NULL,
    definition  json NOT NULL
);
