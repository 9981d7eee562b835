CREATE TABLE numbers (number INTEGER);
.import /dev/stdin numbers
CREATE TABLE ours (number INTEGER);
INSERT INTO ours VALUES (1), (2), (4);
SELECT CASE (SELECT sum(number) FROM ours) WHEN number THEN 'OK' ELSE 'wrong' END FROM numbers;
