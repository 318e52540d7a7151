"""What the zone is drawn from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ZoneParameters:
    """Every free choice of the synthetic zone; equal parameters give equal files.

    Street pattern
        `arterial_columns` x `arterial_rows` arterials (north-south x east-west) whose spacing is drawn from
        `spacing_m`: superblocks of 500-800 m are the rule in Chinese new towns (CJJ 37-2012, 3.2; GB/T 51328-2018,
        12.2: arterials every 500-1200 m). One collector crosses every superblock in each direction, off its middle by
        up to `collector_shift`; `open_blocks` superblocks (a park, a large plant) lack their east-west collector.
        Arterials run on for `stub_m` beyond the last crossing and end in gateways; collectors stop at the outer
        arterials. The middle arterial of each direction is a main one: three lanes and `main_speed_mps`.
    Speeds
        70 km/h on main arterials, 60 km/h on the others, 50 km/h on collectors (GB 51038: 60-70 km/h on divided
        urban arterials), 20 km/h on driveways.
    Cross section
        Lanes 3.25 m (CJJ 37-2012: 3.25 m at 60 km/h or less), an e-bike lane of 2.5 m and a sidewalk of 3 m on each
        side. A left-turn lane opens `pocket_m` before every arterial stop line that has a left turn.
    Georeference
        UTM zone 50 north; the south-west corner lies at `origin_lon`, `origin_lat` (WGS-84), south-east of Beijing.
    Signals
        Yellow 3 s up to 50 km/h and 4 s above (GB 14886-2016: 3-5 s, longer with speed), all red 2 s, walkers
        clear at 1.2 m/s, at least 7 s of walking green (HCM 2010, 18-7). Saturation flow 1800 veh/h and lane for
        through and 1600 for turning lanes (HCM 2010 base 1900 less local adjustments). The common cycle is Webster's
        at the `cycle_quantile` busiest junction, within `cycle_s`: GB 51038 practice keeps it to 120-150 s.
    Demand, morning peak
        `trips_veh_h` motor trips an hour, shared among gateway -> work, home -> work, home -> gateway, through and
        counter-tidal trips by `purpose_shares`. Homes lie mostly in the west, work in the east (`tidal_sharpness`:
        0 mixes them evenly, large values part them). Trucks 6 % (morning ban on heavy trucks inside the ring
        leaves light goods vehicles), e-bikes at 25 km/h (GB 17761-2018). Departures follow `profile`: weights of
        equal slices of the demand period.
        Routes come from an assignment in `assignment_slices` slices, each with its own perception error of
        `route_spread` (standard deviation of log cost), so that equal trips spread over alternatives.
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
    walking_mps: float = 1.2
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
