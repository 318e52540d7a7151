"""What the zone is drawn from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ZoneParameters:
    """Every free choice of the synthetic zone; equal parameters give equal files.

    Street pattern
        `name` goes into `city.toml`, `seed` into every random draw. `arterial_columns` x `arterial_rows` arterials
        (north-south x east-west) stand at a spacing drawn from `spacing_m`: superblocks of 500-800 m are common in
        Chinese new towns. One collector crosses every superblock in each direction, off its middle by up to
        `collector_shift` of its width; `open_blocks` inner superblocks (a park, a large plant) lack their east-west
        collector. Arterials run on for `stub_m` beyond the last crossing and end in gateways; collectors stop at
        the outer arterials. Driveways of `driveway_m` leave the collectors midway between signals. A left-turn lane
        opens `pocket_m` before every arterial stop line that has a left turn.
    Cross section and speeds
        The middle arterial of each direction is a main one of `main_lanes` lanes and `main_speed_mps`, the others
        have `arterial_lanes` and `arterial_speed_mps`, collectors `collector_lanes` and `collector_speed_mps` (CJJ
        37-2012 designs arterials for up to 60 km/h and collectors for up to 50 km/h; the main ones are signed 70
        km/h), driveways `driveway_speed_mps`. Lanes are `lane_width_m` wide (CJJ 37-2012: 3.25 m for cars at 60
        km/h or less), with an e-bike lane of `bike_lane_width_m`, a sidewalk of `sidewalk_width_m` on each side,
        and crossings of `crossing_width_m` on every arm.
    Georeference
        UTM zone 50 north; the south-west corner lies at `origin_lon`, `origin_lat` (WGS-84), south-east of Beijing.
    Signals
        Yellow is `yellow_slow_s` up to 50 km/h and `yellow_fast_s` above (GB 14886-2016: 3-5 s, longer with speed),
        all red `all_red_s`. No green is shorter than `min_green_s`; walkers get `walk_green_s` (7 s, as in the US
        MUTCD) and clear the crossing at a walking pace before anything else starts. `saturation_through_vph` and
        `saturation_turn_vph` per lane are what the zone's vehicle types reach at a stop line in SUMO (measured
        headway 2.2 s), within the 1500-1700 veh/h seen at Chinese signals. The common cycle is Webster's at the
        `cycle_quantile` busiest junction, within the bounds `cycle_s` and long enough for all walkers.
    Demand, morning peak of `duration_s`
        `trips_veh_h` motor trips an hour, shared by `purpose_shares` among gateway to work, home to work, home to
        gateway, through, and counter-tidal trips. Homes lie mostly in the west, work in the east, the more so the
        larger `tidal_sharpness` (0 mixes them evenly). `truck_share` is small, for heavy trucks are banned in the
        morning; `ebikes_h` e-bikes (25 km/h, GB 17761-2018) and `walkers_h` walkers an hour are kept modest for the
        cost of simulating them. Buses run every `bus_headway_s` on each line. Departures follow `profile`, weights
        of equal slices of the period. Routes come from an assignment in `assignment_slices` parts that see the load
        of those before, each with a perception error of `route_spread` (standard deviation of log cost), so that
        equal trips spread over alternatives.
    """

    name: str = "zone"
    seed: int = 20260302
    # street pattern
    arterial_columns: int = 4
    arterial_rows: int = 5
    spacing_m: tuple[float, float] = (520.0, 760.0)
    collector_shift: float = 0.08
    open_blocks: int = 2
    stub_m: float = 320.0
    pocket_m: float = 90.0
    driveway_m: float = 90.0
    # cross section and speeds
    main_lanes: int = 3
    arterial_lanes: int = 2
    collector_lanes: int = 2
    main_speed_mps: float = 70 / 3.6
    arterial_speed_mps: float = 60 / 3.6
    collector_speed_mps: float = 50 / 3.6
    driveway_speed_mps: float = 20 / 3.6
    lane_width_m: float = 3.25
    bike_lane_width_m: float = 2.5
    sidewalk_width_m: float = 3.0
    crossing_width_m: float = 5.0
    # georeference
    origin_lon: float = 116.50
    origin_lat: float = 39.80
    # signals
    yellow_fast_s: int = 4
    yellow_slow_s: int = 3
    all_red_s: int = 2
    min_green_s: int = 7
    walk_green_s: int = 7
    saturation_through_vph: float = 1600.0
    saturation_turn_vph: float = 1450.0
    cycle_s: tuple[int, int] = (80, 130)
    cycle_quantile: float = 0.9
    # demand
    duration_s: float = 3600.0
    trips_veh_h: float = 14000.0
    purpose_shares: tuple[float, float, float, float, float] = (0.34, 0.20, 0.16, 0.18, 0.12)
    tidal_sharpness: float = 2.5
    truck_share: float = 0.06
    ebikes_h: float = 1200.0
    walkers_h: float = 500.0
    bus_headway_s: float = 360.0
    profile: tuple[float, ...] = (0.95, 1.0, 1.05, 1.1, 1.1, 1.05, 1.0, 1.0, 0.95, 0.95, 0.9, 0.9)
    assignment_slices: int = 12
    route_spread: float = 0.15
